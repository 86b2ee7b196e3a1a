"""Run the HTTP server, and give aiohttp's own rejections the common error shape."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from service.http.app_keys import SETTINGS
from service.http.connections import BoundedConnection, Connections, max_connections
from service.http.error_codes import ErrorCode
from service.http.errors import (
    Handler,
    error_body,
    framework_error_response,
    internal_error_response,
)
from service.http.request_log import REQUEST_LOG, Line, RequestLog, request_id_of
from service.http.responses import REQUEST_ID_HEADER, JsonResponse, json_response
from service.http.security_headers import require_https
from service.http.static_routes import StaticRoutes
from service.http.unread_responses import limit_kernel_buffers

logger = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 75.0  # Longer than common proxies' idle timeout: they must close first.
BACKLOG = 1024
ENDING = 1.0  # Seconds for a request to end after it is canceled.
POLL = 0.02  # Seconds between two checks for running requests.
IDLE_SECONDS = 0.5  # Seconds for a request that is on its way on an idle connection when it stops.


class RequestProtocol(BoundedConnection):
    """aiohttp's protocol, with its plain-text errors converted to the common error shape."""

    __slots__ = ("_is_half_closed", "_is_https", "_last_payload", "_request_log")

    def __init__(
        self,
        server: web.Server,
        connections: Connections,
        request_log: RequestLog,
        *,
        handle: Handler,
        is_https: bool,
        **options: Any,
    ) -> None:
        """``handle`` returns the response to a request.

        ``is_https`` tells whether clients reach the service over https.
        """
        super().__init__(server, connections, **options)
        self._request_handler = cast(Any, handle)
        self._request_log = request_log
        self._is_https = is_https
        self._is_half_closed = False
        self._last_payload: StreamReader = EMPTY_PAYLOAD

    def data_received(self, data: bytes) -> None:
        """Parse ``data``. Keep the body of the last request, which may still be incomplete."""
        super().data_received(data)
        if self._messages:
            self._last_payload = self._messages[-1][1]

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's takes a bool too.
        """Keep the connection open until every complete request has its response.

        A client may close its sending side and continue to read (RFC 9293, section 3.6). By default
        the transport closes the connection then, and only a handler that never waits can send its
        response. On Python 3.11, where tasks start later, not even that handler can. With an
        incomplete upload, close the connection immediately.
        """
        super().eof_received()
        is_idle = self._waiter is not None and not self._waiter.done()
        if is_idle or not self._last_payload.is_eof():
            return False
        self._is_half_closed = True
        if not self._messages:
            self._close = True  # The running request is the last one.
        return True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to invalid HTTP, or to an error outside the middlewares.

        Raise ``exc`` if the client disconnected: the request log already has a line for it. Raise
        ``ConnectionError`` if the response has begun, because it can only be aborted then.
        """
        if isinstance(exc, ConnectionError) and self.transport is None:
            raise exc
        if status >= 500:
            self.log_exception("unhandled error", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun and can only be aborted")
        if status >= 500:
            response = internal_error_response()
        elif isinstance(exc, LineTooLong):
            errors = {"request": ["has a line or a header that is too long"]}
            response = json_response(error_body(ErrorCode.BAD_REQUEST, errors), status=status)
        else:
            errors = {"request": ["is not valid HTTP"]}
            response = json_response(error_body(ErrorCode.BAD_REQUEST, errors), status=status)
        self._note(request, response)
        response.force_close()
        return response

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Any:
        """Send ``resp``. Render the errors raised before the middlewares run (``Expect``)."""
        if type(resp) is not JsonResponse and isinstance(resp, web.HTTPException):
            resp = framework_error_response(resp.status, resp.headers)
            self._note(request, resp)
        if self._is_https:
            require_https(resp)
        if request.content.exception() is not None:
            resp.force_close()  # Incomplete body: the start of the next request is unknown.
        elif (self._is_half_closed or self._connections.is_draining) and not self._messages:
            resp.force_close()  # No further request can arrive, or none should.
        return super().finish_response(request, resp, start_time)

    def log_exception(self, *args: Any, **options: Any) -> None:
        """Log an error, except a client's incomplete body while aiohttp discards the rest of it."""
        if not isinstance(options.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **options)

    def close(self) -> None:
        """Close the connection after the running request, or immediately if it is idle.

        aiohttp itself only stops reading from an idle connection, and its client keeps waiting.
        """
        is_idle = self.is_idle()
        super().close()
        if is_idle:
            self.force_close()

    def _note(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        request_id = request_id_of(request)
        response.headers[REQUEST_ID_HEADER] = request_id
        self._request_log.write(
            Line(time.time(), request_id, request.method, None, response.status, 0.0, None)
        )


class Server:
    """An HTTP server for ``app`` on ``sockets``."""

    def __init__(
        self, app: web.Application, sockets: Sequence[socket.socket], shutdown_timeout: float
    ) -> None:
        """Set how long ``stop`` waits for running requests: ``shutdown_timeout``, in seconds."""
        self._app = app
        self._sockets = sockets
        self._shutdown_timeout = shutdown_timeout
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=ENDING)
        self._listening: list[asyncio.Server] = []
        self.connections = Connections(max_connections(app[SETTINGS].database_pool_size))

    async def start(self) -> None:
        """Start the application, then accept connections."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        routes = StaticRoutes(self._app)

        def protocol() -> RequestProtocol:
            server = self._runner.server
            assert server is not None
            return RequestProtocol(
                server,
                self.connections,
                self._app[REQUEST_LOG],
                handle=routes.handle,
                is_https=self._app[SETTINGS].public_url.startswith("https://"),
                loop=loop,
                keepalive_timeout=KEEPALIVE_SECONDS,
                access_log=None,
                # Encoded bodies are rejected. No byte may be decompressed before the rejection.
                auto_decompress=False,
            )

        for sock in self._sockets:
            limit_kernel_buffers(sock)
            listening = await loop.create_server(protocol, sock=sock, backlog=BACKLOG)
            self._listening.append(listening)
        self.connections.start()

    async def stop(self, is_urgent: Callable[[], bool] = lambda: True) -> None:
        """Stop accepting connections, wait for running requests, then close the application.

        Each connection closes after its next response, which says so: a client that has just sent
        a request on an idle connection gets its response. The idle connections are closed
        ``IDLE_SECONDS`` after ``is_urgent`` returned true, and otherwise at the shutdown timeout.
        """
        for listening in self._listening:
            listening.close()
        self.connections.is_draining = True
        if (server := self._runner.server) is not None:
            # Wait here, because aiohttp applies its timeout twice and treats 0 as no timeout.
            await asyncio.sleep(0)  # Requests that have just arrived count as running.
            deadline = idle_deadline = time.monotonic() + self._shutdown_timeout
            while server.connections and (now := time.monotonic()) < deadline:
                if is_urgent():
                    idle_deadline = min(idle_deadline, now + IDLE_SECONDS)
                if now >= idle_deadline:
                    server.pre_shutdown()
                await asyncio.sleep(POLL)
            self._log_aborted()
        self.connections.stop()
        await self._runner.cleanup()

    def _log_aborted(self) -> None:
        """Log how many requests did not finish in time. Each also gets a line with status 499."""
        count = sum(not connection.is_idle() for connection in self.connections)
        if count:
            logger.warning("requests aborted, they exceeded SHUTDOWN_TIMEOUT: count=%d", count)
