"""Limit the number of connections of a process, and how long each may send no request.

The cost per request is a few assignments. One timer checks the time limits of all connections, once
a second.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from service.http.responses import JsonResponse
from service.http.streamed_json import StreamedJson
from service.http.unread_responses import UnreadResponses

logger = logging.getLogger(__name__)

HEADER_TIMEOUT = 10.0  # Seconds to send a request head, from connecting or from its first byte.
MAX_HEAD_BYTES = 32_768  # Bytes of an incomplete head. Larger heads are rejected with 400.
MAX_QUEUED_REQUESTS = 2  # Pipelined requests that wait on one connection for the running one.
MAX_BATCH = 64  # Responses that are written together.
MAX_BATCHED_BYTES = 16_384  # Larger responses are written immediately.

MAX_CONNECTIONS = 16_384  # Limits the memory where the descriptor limit is very high.
RESERVED_DESCRIPTORS = 64  # For log files, sockets and libraries, in addition to the database pool.
CHECK_INTERVAL = 1.0  # Seconds.

TCP_CLOSE = 7  # State of a reset connection (Linux, include/net/tcp_states.h).


def raise_descriptor_limit() -> None:
    """Raise the soft limit of file descriptors to the hard limit. Child processes inherit it.

    The soft limit is often 1,024, because select() supports no higher descriptors. No program of
    this service calls select().
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS rejects its own "unlimited".
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def max_connections(reserved: int) -> int:
    """Return how many connections this process can hold with ``reserved`` descriptors kept free."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections_within(soft, reserved)


def connections_within(descriptors: int, reserved: int) -> int:
    """Return how many connections a limit of ``descriptors`` allows beside ``reserved`` ones."""
    if descriptors == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(
        MAX_CONNECTIONS, max(descriptors - reserved - RESERVED_DESCRIPTORS, descriptors // 2)
    )


_CONNECTION: ContextVar["BoundedConnection | None"] = ContextVar("connection", default=None)


def client_is_gone() -> bool:
    """Return whether the client of the current request has reset its connection.

    A client that has only shut down its sending side still waits for its response (RFC 9112,
    section 9.6). Outside a request, return ``False``.
    """
    connection = _CONNECTION.get()
    return connection is not None and connection.is_gone()


class BoundedConnection(web.RequestHandler):
    """aiohttp's protocol of one connection, with the limits of ``Connections``."""

    __slots__ = (
        "_connections",
        "_head_began",
        "_head_bytes",
        "_heads",
        "_resumed_handler",
        "_stream",
        "_unsent",
        "_writer",
    )

    def __init__(self, server: web.Server, connections: "Connections", **options: Any) -> None:
        super().__init__(server, **options)
        # aiohttp queues 32 requests by default, each with a head of up to 2 MiB.
        self._max_msg_queue_size = MAX_QUEUED_REQUESTS
        self._msg_queue_resume_size = MAX_QUEUED_REQUESTS // 2
        self._connections = connections
        self._head_began = 0.0
        self._head_bytes = 0
        self._heads = 0  # The ``_request_count`` at which the two fields above were set.
        self._writer: AbstractStreamWriter | None = None
        self._stream: StreamedJson | None = None
        self._resumed_handler = self._request_handler
        self._unsent = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve the connection. Abort it if the client reset it before it was accepted.

        Otherwise each reset connection in a full backlog delays all other clients by one request.
        """
        tcp = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass.
        if _is_reset(tcp):
            tcp.abort()
            return
        # With a limit of 0, every byte that the socket does not take counts as unread. As a side
        # effect, a pipelined request waits until the socket has taken the previous response.
        tcp.set_write_buffer_limits(0)
        self._head_began = self._loop.time()
        _CONNECTION.set(self)  # The task that serves the requests copies this context.
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the resources of this connection."""
        self._connections.discard(self)
        self._writer = self._stream = None
        self._unsent = b""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse ``data``. Record when a request head begins and how many bytes of it arrived."""
        super().data_received(data)
        if not data or not self.is_idle():
            return
        if self._heads != self._request_count:
            self._heads = self._request_count
            self._head_began = self._loop.time()
            self._head_bytes = 0
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            error = LineTooLong(b"", MAX_HEAD_BYTES)
            rejected = _ErrInfo(status=400, exc=error, message=error.message)
            self._messages.append((rejected, EMPTY_PAYLOAD))
            assert self._waiter is not None
            self._waiter.set_result(None)

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Any:
        """Send ``resp``. Free the request body first: a slow client must not keep it in memory."""
        self._writer = request.writer
        self._stream = resp if isinstance(resp, StreamedJson) else None
        request._read_bytes = None
        if type(resp) is JsonResponse and not self._upgraded:
            return self._finish_json(request, resp)
        return super().finish_response(request, resp, start_time)

    async def _finish_json(
        self, request: web.BaseRequest, response: JsonResponse
    ) -> tuple[JsonResponse, bool]:
        """Send ``response`` and return the same as ``finish_response``."""
        request._finish()
        transport = self.transport
        if transport is None or transport.is_closing():
            return response, True
        data = response.render(request)
        request.writer.output_size = len(data)
        if response.keep_alive and len(data) <= MAX_BATCHED_BYTES and not self._messages:
            self._unsent = data
            self._connections.flush_later(self)
            return response, False
        transport.write(data)
        try:
            await request.writer.drain()
        except ConnectionError:
            return response, True
        return response, False

    def flush(self) -> None:
        """Write the queued response, if there is one."""
        if self._unsent:
            data, self._unsent = self._unsent, b""
            assert self.transport is not None
            self.transport.write(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # aiohttp's returns nothing.
        """Write the queued response before the transport closes the connection."""
        self.flush()
        return super().eof_received()

    def force_close(self) -> None:
        """Close the connection after the queued response."""
        self.flush()
        super().force_close()

    async def _handle_when_read(self, request: web.BaseRequest) -> web.StreamResponse:
        """Wait until the socket has taken the response before, then handle ``request``."""
        await self._drain_helper()
        assert self._resumed_handler is not None
        return await self._resumed_handler(request)

    def pause_writing(self) -> None:
        """Count the response as unread, because the socket did not take all of it.

        The next request waits, because only one response of a connection is counted.
        """
        super().pause_writing()
        self._resumed_handler = self._request_handler
        self._request_handler = cast(Any, self._handle_when_read)
        transport, writer = self.transport, self._writer
        if transport is not None:
            # The whole response stays in memory until its last byte is sent, but of a stream only
            # its current piece.
            size = writer.output_size if writer else 0
            if self._stream is not None:
                size = self._stream.piece_size
            held = max(size, transport.get_write_buffer_size())
            self._connections.unread.add(self, transport, held)

    def resume_writing(self) -> None:
        """Stop counting the response as unread."""
        self._request_handler = self._resumed_handler
        self._connections.unread.discard(self)
        super().resume_writing()

    def is_idle(self) -> bool:
        """Return whether no request is running on this connection."""
        waiter = self._waiter
        return waiter is not None and not waiter.done()

    def is_gone(self) -> bool:
        """Return whether the client can no longer receive a response."""
        transport = self.transport
        return transport is None or transport.is_closing() or _is_reset(transport)

    @property
    def idle_since(self) -> float:
        """Return when the last response ended or the connection began, plus a constant."""
        return self._next_keepalive_close_time

    def is_late(self, now: float) -> bool:
        """Return whether the first head, or a head that has begun, exceeds ``HEADER_TIMEOUT``."""
        return (
            self._heads == self._request_count
            and now - self._head_began >= HEADER_TIMEOUT
            and self.is_idle()
        )


class Connections:
    """All open connections of this process.

    ``max_count`` is their maximum number. Above it, the connections that have been idle longest are
    closed. A connection with a running request is never closed for this reason.
    """

    def __init__(self, max_count: int) -> None:
        self.max_count = max_count
        self.is_draining = False
        """Whether each connection closes after its next response."""
        self.unread = UnreadResponses()
        self._open: set[BoundedConnection] = set()
        self._unsent: list[BoundedConnection] = []
        self._is_full = False  # Log once until the number has fallen again.
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[BoundedConnection]:
        return iter(self._open)

    def start(self) -> None:
        """Start the timer that checks the time limits."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(CHECK_INTERVAL, self._check_again, loop)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, connection: BoundedConnection) -> None:
        """Count an accepted connection. Close idle connections if there are too many."""
        self._open.add(connection)
        if len(self._open) > self.max_count:
            self._close_longest_idle(connection)

    def discard(self, connection: BoundedConnection) -> None:
        """Stop counting a closed connection."""
        self._open.discard(connection)
        self.unread.discard(connection)

    def flush_later(self, connection: BoundedConnection) -> None:
        """Flush ``connection`` with the others of this iteration of the event loop.

        A client on the same machine usually sleeps while the service works. Each response that
        is written alone wakes it, which takes as long as half of a fast request.
        """
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsent.append(connection)
        if len(self._unsent) >= MAX_BATCH:
            self.flush()

    def flush(self) -> None:
        """Write the queued responses of all connections."""
        unsent, self._unsent = self._unsent, []
        for connection in unsent:
            connection.flush()

    def check(self, now: float) -> None:
        """Close the connections that exceed a time limit. ``now`` is the event loop's time."""
        for connection in [each for each in self._open if each.is_late(now)]:
            connection.force_close()
        self.unread.check(now)
        if len(self._open) < self.max_count * 3 // 4:
            self._is_full = False

    def _check_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(CHECK_INTERVAL, self._check_again, loop)
        self.check(loop.time())

    def _close_longest_idle(self, newest: BoundedConnection) -> None:
        """Close the connections idle longest, or ``newest`` if all others have running requests."""
        if not self._is_full:
            self._is_full = True
            logger.warning("too many connections, closing the longest idle: max=%s", self.max_count)
        idle = [each for each in self._open if each.is_idle() and each is not newest]
        idle.sort(key=lambda each: each.idle_since)
        # Close several together. Otherwise each new connection of a flood would sort all of them.
        for connection in idle[: 1 + self.max_count // 32] or [newest]:
            self._open.discard(connection)
            connection.force_close()


def _is_reset(transport: asyncio.Transport) -> bool:
    """Return whether the client has reset the connection.

    Outside Linux, return ``False``: there, a reset is unknown until the socket is read.
    """
    sock = transport.get_extra_info("socket")
    if sys.platform != "linux" or sock is None:
        return False
    try:
        state: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except OSError:  # Not a TCP socket, or closed.
        return False
    return state[0] == TCP_CLOSE
