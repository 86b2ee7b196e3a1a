"""The parts of ``GET /api/user`` in one process: the same path with one part after the other."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import uvloop
from aiohttp import web
from asyncpg.pgproto.pgproto import UUID

from bench.table import Report, Row
from service.accounts import current_user, link_pages
from service.accounts.sessions.access_tokens import AccessTokens
from service.accounts.sessions.authentication import TOKENS, Authenticator
from service.accounts.sessions.cache import SessionCache
from service.accounts.sessions.cache_invalidation import cache_invalidation_middleware
from service.accounts.sessions.sessions import may_touch
from service.accounts.user import SessionUse, User
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.auth import auth_middleware
from service.http.connections import Connections
from service.http.errors import error_middleware
from service.http.request_log import RequestLog, request_log_middleware
from service.http.responses import JsonResponse
from service.http.server import RequestProtocol
from service.http.static_routes import StaticRoutes
from service.http.unsupported import reject_unsupported
from service.settings.settings import Settings

SESSIONS = 5_000
CONNECTIONS = 50
ROUNDS = 25
SECRET = "only for tokens of the bench, which no service accepts"  # noqa: S105
Protocol = Callable[[], Any]
MIDDLEWARES = [
    "the request id and the log line",
    "the pages for people",
    "the version and the encoding",
    "the errors",
    "the token: its header, its claims, its session",
    "the invalidation of the cache",
]

_SENT = web.StreamResponse()
_SENT._keep_alive = True


class _Transport:
    """A transport that counts the responses, without a socket."""

    def __init__(self) -> None:
        self.count = 0
        self.last = b""

    def write(self, data: bytes) -> None:
        self.count += 1
        self.last = data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int) -> None:
        pass


class _AlwaysTrusted:
    trusted_until = float("inf")


LISTENER = cast(Any, _AlwaysTrusted())


def measure(report: Report) -> list[Row]:
    """Measure every part and return the rows of its table. Takes half a minute."""
    report(f"The parts of GET /api/user, {SESSIONS:,} sessions, {ROUNDS} rounds ...")
    with Path("/dev/null").open("w") as null:
        return uvloop.run(_measure(RequestLog(null)))


async def _measure(log: RequestLog) -> list[Row]:
    tokens, cache = AccessTokens(SECRET, (), 86_400), SessionCache(SESSIONS)
    requests = fill(tokens, cache)
    authenticator = Authenticator(cast(Any, None), tokens, cache, LISTENER, cast(Any, None))
    every = middlewares(log, authenticator)
    whole = await service(log, tokens, every, current_user.current)
    body = (await drive(whole, requests))[1].partition(b"\r\n\r\n")[2]

    async def respond(_: web.Request) -> web.StreamResponse:
        return JsonResponse(body, 200, None)

    async def use(request: web.Request) -> web.StreamResponse:
        assert not may_touch(request["user"])
        return JsonResponse(body, 200, None)

    async def sign(request: web.Request) -> web.StreamResponse:
        user = request["user"]
        assert not may_touch(user)
        request.app[TOKENS].issue(user.id, user.session_id, user.session_expires_at)
        return JsonResponse(body, 200, None)

    steps: dict[str, Protocol] = {
        "the bare handler, without sockets": await _bare(body),
        "parsing": await service(log, tokens, [], respond, _OnlyParsing),
        "the event loop, the task and the objects of the request": await service(
            log, tokens, [], respond, _WithoutRoute
        ),
        "the route": await service(log, tokens, [], respond, _WithoutResponse),
        "the response": await service(log, tokens, [], respond),
    }
    for count, name in enumerate(MIDDLEWARES, 1):
        steps[name] = await service(log, tokens, every[:count], respond)
    steps["the use of the session"] = await service(log, tokens, every, use)
    steps["the new token"] = await service(log, tokens, every, sign)
    steps["the JSON: the whole request"] = whole
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(-1, ROUNDS):  # The first is a warm-up.
        for name, protocol in steps.items():
            spent = (await drive(protocol, requests))[0]
            if number >= 0:
                times[name].append(spent)
    # The fastest round, because other processes can only make a round slower.
    bare, *parts = ((name, min(seen)) for name, seen in times.items())
    rows, before = [Row(bare[0], "", f"{bare[1]:.1f} µs", "1.00")], 0.0
    for name, total in parts:
        added = f"{total - before:+.1f} µs"
        rows.append(Row(name, added, f"{total:.1f} µs", f"{bare[1] / total:.2f}"))
        before = total
    return rows


class _OnlyParsing(RequestProtocol):
    """Parse requests, and count them as if they had a response."""

    def data_received(self, data: bytes) -> None:
        assert self._parser is not None
        self._parser.feed_data(data)
        self._parser.message_consumed()
        cast(Any, self.transport).write(b"")


class _WithoutResponse(RequestProtocol):
    """Handle requests without a response."""

    async def finish_response(self, request: Any, *_: Any) -> tuple[Any, bool]:
        request._finish()
        cast(Any, self.transport).write(b"")
        return _SENT, False


class _WithoutRoute(_WithoutResponse):
    """Handle requests without a route and a response."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._request_handler = cast(Any, _no_response)


async def _no_response(_: web.BaseRequest) -> web.StreamResponse:
    return _SENT


def fill(tokens: AccessTokens, cache: SessionCache) -> list[bytes]:
    """Put every session into ``cache`` and return a request of each."""
    return [_request(tokens, cache, number) for number in range(SESSIONS)]


def middlewares(log: RequestLog, authenticator: Authenticator) -> list[Any]:
    """Return the middlewares of the service in their order."""
    return [
        request_log_middleware(log),
        link_pages.error_page_middleware,
        reject_unsupported,
        error_middleware({}, strict=False),
        auth_middleware(authenticator.authenticate),
        cache_invalidation_middleware(LISTENER),
    ]


def _request(tokens: AccessTokens, cache: SessionCache, number: int) -> bytes:
    user_id, session_id = UUID(f"{number:032x}"), UUID(f"{SESSIONS + number:032x}")
    now = time.time()
    end, name = now + 2 * 86_400, f"user{number}"
    use = SessionUse(now, now, "127.0.0.1", None)
    profile = (f"{name}@example.com", name, None, None)
    cache.put_user(User(user_id, *profile, session_id, end, now, ("pwd",), False, (), use))
    token = tokens.issue(user_id, session_id, end).token
    cache.put_claims(token, tokens.verify(token))
    return f"GET /api/user HTTP/1.1\r\nHost: x\r\nAuthorization: Token {token}\r\n\r\n".encode()


async def service(
    log: RequestLog,
    tokens: AccessTokens,
    middlewares: Any,
    handle: Any,
    kind: type[RequestProtocol] = RequestProtocol,
) -> Protocol:
    """Return the protocol of an application with these middlewares and one route."""
    app = web.Application(middlewares=middlewares)
    app[TOKENS], app[SETTINGS], app[DATABASE] = tokens, Settings(), cast(Any, None)
    cast(Any, handle).operation = cast(Any, current_user.current).operation
    app.router.add_get("/api/user", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    routes, connections, loop = StaticRoutes(app), Connections(1_000), asyncio.get_running_loop()
    return lambda: kind(
        cast(Any, runner.server),
        connections,
        log,
        handle=routes.handle,
        is_https=False,
        loop=loop,
        access_log=None,
    )


async def _bare(body: bytes) -> Protocol:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": "application/json; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/api/user", respond)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    return cast(Protocol, runner.server)


async def drive(protocol: Protocol, requests: list[bytes]) -> tuple[float, bytes]:
    """Return the CPU microseconds of one of ``requests``, and the last response."""
    transports = [_Transport() for _ in range(CONNECTIONS)]
    connections = [protocol() for _ in transports]
    for connection, transport in zip(connections, transports, strict=True):
        connection.connection_made(transport)
    await asyncio.sleep(0)
    started = time.process_time()
    for begin in range(0, len(requests), CONNECTIONS):
        due = transports[-1].count + 1
        batch = requests[begin : begin + CONNECTIONS]
        for connection, data in zip(connections, batch, strict=True):
            connection.data_received(data)
        while transports[-1].count < due:  # noqa: ASYNC110  # One turn of the event loop.
            await asyncio.sleep(0)
    spent = (time.process_time() - started) / len(requests) * 1e6
    for connection in connections:
        connection.connection_lost(None)
    return spent, transports[-1].last
