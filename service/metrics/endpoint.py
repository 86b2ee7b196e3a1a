"""``GET /metrics`` on a port of its own.

All workers accept connections of one listening socket, and each of them can print the values of
all. So a scrape needs only one worker that lives, and the parent needs no event loop.
"""

import asyncio
import hmac
import socket

from aiohttp import hdrs, web

from service import __version__
from service.database.change_listener import clock
from service.database.circuit_breaker import DatabaseUnavailable
from service.http import security_headers
from service.http.app_keys import SETTINGS
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError, error_middleware
from service.http.request_log import REQUEST_LOG, RequestLog
from service.http.server import Server
from service.http.unsupported import reject_unsupported
from service.mail.outbox import OUTBOX, Outbox
from service.metrics.shared_values import SharedValues
from service.metrics.text_format import CONTENT_TYPE, Reading, render

MAX_CONNECTIONS = 16
SHUTDOWN_TIMEOUT = 1.0  # Seconds for a running scrape when the worker stops.
OUTBOX_INTERVAL = 5.0  # Seconds between two queries of the outbox.
OUTBOX_TIMEOUT = 2.0  # Seconds. Prometheus waits 10 seconds for a scrape.


class OutboxReader:
    """Read the depth of the outbox at most every ``OUTBOX_INTERVAL`` seconds."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._lock = asyncio.Lock()
        self._next_read = 0.0
        self._readings: list[Reading] = []

    async def read(self) -> list[Reading]:
        """Return the readings. Without the database only one of them: that it is unreachable."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now >= self._next_read:
                self._readings = await self._query()
                self._next_read = now + OUTBOX_INTERVAL
            return self._readings

    async def _query(self) -> list[Reading]:
        up = ("database_up", "1 if the database responds, otherwise 0.")
        try:
            async with asyncio.timeout(OUTBOX_TIMEOUT):
                row = await self._outbox.measure()
        except (DatabaseUnavailable, TimeoutError):
            return [Reading(*up, 0.0)]
        return [
            Reading(*up, 1.0),
            Reading("outbox_mails", "Mails that wait in the outbox.", float(row["pending"])),
            Reading(
                "outbox_oldest_age_seconds",
                "Age of the oldest mail that waits, or 0.",
                float(row["oldest_age"]),
            ),
        ]


def create_endpoint(values: SharedValues, service: web.Application, sock: socket.socket) -> Server:
    """Return the server that prints ``values`` on ``sock``. ``service`` has started."""
    settings = service[SETTINGS]
    outbox = OutboxReader(service[OUTBOX])
    token = settings.metrics_token
    expected = f"Bearer {token}".encode() if token is not None else None

    async def metrics(request: web.Request) -> web.StreamResponse:
        given = request.headers.get(hdrs.AUTHORIZATION, "").encode(errors="surrogateescape")
        if expected is not None and not hmac.compare_digest(given, expected):
            raise ApiError(
                ErrorCode.TOKEN_INVALID,
                {"token": ["is invalid: expected the header 'Authorization: Bearer <token>'"]},
                headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
            )
        readings = [
            Reading("info", "Always 1.", 1.0, f'version="{__version__}"'),
            Reading("workers", "Workers that should run.", float(values.workers)),
            *await outbox.read(),
        ]
        text = render(values, readings, clock())
        response = web.Response(body=text.encode(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})
        # The next scrape may go to any worker: this one may hang then.
        response.force_close()
        return response

    app = web.Application(middlewares=[reject_unsupported, error_middleware({}, strict=False)])
    app.on_response_prepare.append(security_headers.on_response_prepare)
    app[SETTINGS] = settings
    app[REQUEST_LOG] = RequestLog()  # For requests that are not valid HTTP. Scrapes are not logged.
    app.router.add_get("/metrics", metrics)
    server = Server(app, [sock], SHUTDOWN_TIMEOUT)
    server.connections.max_count = MAX_CONNECTIONS
    return server
