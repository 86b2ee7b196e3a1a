"""The server below the application: answers what aiohttp refuses itself in the contract's shape."""

import asyncio
import socket
import time
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from service.http.connections import BoundedConnection, Connections, max_connections
from service.http.errors import SETTINGS, framework_error_response, internal_error_response
from service.http.request_log import HEADER, REQUEST_LOG, Line, RequestLog, request_id_of
from service.http.responses import JsonResponse, json_response
from service.http.unread_responses import limit_kernel_buffers

KEEPALIVE_SECONDS = 75.0  # Above the idle time of common proxies, so that they close first.
BACKLOG = 1024
ENDING = 1.0  # Seconds that a request gets to end once it is broken off.
POLL = 0.02  # Seconds between two looks whether requests still run.


class RequestProtocol(BoundedConnection):
    """aiohttp's protocol, with its plain-text refusals put into the one error shape."""

    __slots__ = ("_is_half_closed", "_last_payload", "_request_log")

    def __init__(
        self,
        server: web.Server,
        connections: Connections,
        request_log: RequestLog,
        **options: Any,
    ) -> None:
        super().__init__(server, connections, **options)
        self._request_log = request_log
        self._is_half_closed = False
        self._last_payload: StreamReader = EMPTY_PAYLOAD

    def data_received(self, data: bytes) -> None:
        """Parse ``data``; keep the body of the last request, which may be on its way still."""
        super().data_received(data)
        if self._messages:
            self._last_payload = self._messages[-1][1]

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's takes a bool too.
        """Keep the connection open until every request that arrived whole has its response.

        A client may close its sending side and read on (RFC 9293, section 3.6). By default the
        connection is closed with it, and a response is sent only where its handler never waits (on
        Python 3.11, where tasks start later, not even then). A broken upload closes it at once.
        """
        is_idle = self._waiter is not None and not self._waiter.done()
        if is_idle or not self._last_payload.is_eof():
            return False
        self._is_half_closed = True
        if not self._messages:
            self._close = True  # The request that runs is the last one.
        return True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that are not HTTP, or to a fault outside the middlewares.

        Raises ``exc`` when it is the client's disconnection: the request log has its line already.
        """
        if isinstance(exc, ConnectionError) and self.transport is None:
            raise exc
        if status >= 500:
            self.log_exception("unhandled error", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: it can only break off")
        if status >= 500:
            response = internal_error_response()
        elif isinstance(exc, LineTooLong):
            errors = {"request": ["has a line or a header that is too long"]}
            response = json_response({"errors": errors, "code": "bad_request"}, status=status)
        else:
            errors = {"request": ["is not valid HTTP"]}
            response = json_response({"errors": errors, "code": "bad_request"}, status=status)
        self._note(request, response)
        response.force_close()
        return response

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Any:
        """Send ``resp``; a refusal from before the middlewares (``Expect``) is rendered here."""
        if type(resp) is not JsonResponse and isinstance(resp, web.HTTPException):
            resp = framework_error_response(resp.status, resp.headers)
            self._note(request, resp)
        if request.content.exception() is not None:
            resp.force_close()  # The body broke: where the next request begins nobody knows.
        elif self._is_half_closed and not self._messages:
            resp.force_close()  # No further request can arrive.
        return super().finish_response(request, resp, start_time)

    def log_exception(self, *args: Any, **options: Any) -> None:
        """Log a fault. A body that breaks while aiohttp reads its rest away is not one of ours."""
        if not isinstance(options.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **options)

    def close(self) -> None:
        """Close the connection after the request that runs, at once if none does.

        aiohttp itself only ceases to listen on an idle one, and leaves its client waiting.
        """
        is_idle = self.is_idle()
        super().close()
        if is_idle:
            self.force_close()

    def _note(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        request_id = request_id_of(request)
        response.headers[HEADER] = request_id
        self._request_log.write(
            Line(time.time(), request_id, request.method, None, response.status, 0.0, None)
        )


class Server:
    """``app`` listening on ``sock``."""

    def __init__(self, app: web.Application, sock: socket.socket, shutdown_timeout: float) -> None:
        """``shutdown_timeout`` is how many seconds running requests get at the end."""
        self._app = app
        self._sock = sock
        self._shutdown_timeout = shutdown_timeout
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=ENDING)
        self._listening: asyncio.Server | None = None
        self.connections = Connections(max_connections(app[SETTINGS].database_pool_size))

    async def start(self) -> None:
        """Start the application, then listen."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()

        def protocol() -> RequestProtocol:
            server = self._runner.server
            assert server is not None
            return RequestProtocol(
                server,
                self.connections,
                self._app[REQUEST_LOG],
                loop=loop,
                keepalive_timeout=KEEPALIVE_SECONDS,
                access_log=None,
                # Encoded bodies are refused: not a byte of one may be decompressed before that.
                auto_decompress=False,
            )

        limit_kernel_buffers(self._sock)
        self._listening = await loop.create_server(protocol, sock=self._sock, backlog=BACKLOG)
        self.connections.start()

    async def stop(self) -> None:
        """Listen no more, let running requests finish, then close the application."""
        if self._listening is not None:
            self._listening.close()
        if (server := self._runner.server) is not None:
            # Waited for here, since aiohttp spends its timeout twice and takes 0 for "for ever".
            await asyncio.sleep(0)  # What has just arrived counts as running.
            deadline = time.monotonic() + self._shutdown_timeout
            while server.connections and time.monotonic() < deadline:
                server.pre_shutdown()
                await asyncio.sleep(POLL)
        self.connections.stop()
        await self._runner.cleanup()
