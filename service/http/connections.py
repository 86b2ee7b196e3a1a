"""Bounds on the connections of one process: how many, and how long each may send no request.

Nothing here runs for each request, except a few assignments. Time limits are checked for all
connections together, once a second.
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

from service.http.unread_responses import UnreadResponses

logger = logging.getLogger(__name__)

HEADER_TIMEOUT = 10.0  # Seconds to send the head of a request, once connected or once begun.
MAX_HEAD_BYTES = 32_768  # Bytes of a head that is not complete; past it, 400.
MAX_QUEUED_REQUESTS = 2  # Pipelined requests of one connection that wait for the one under way.

MAX_CONNECTIONS = 16_384  # Bounds the memory where the limit of descriptors is very high.
RESERVED_DESCRIPTORS = 64  # For log files, sockets and libraries, beside the database pool.
CHECK_INTERVAL = 1.0  # Seconds.

TCP_CLOSE = 7  # The state of a connection that was reset (Linux, include/net/tcp_states.h).


def raise_descriptor_limit() -> None:
    """Raise the soft limit of file descriptors to the hard limit; child processes inherit it.

    The soft limit is often 1,024, for the sake of programs that call select(), which none of ours
    does.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses its own "unlimited".
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def max_connections(reserved: int) -> int:
    """How many connections this process can hold and keep ``reserved`` descriptors free."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(soft - reserved - RESERVED_DESCRIPTORS, soft // 2))


_CONNECTION: ContextVar["BoundedConnection | None"] = ContextVar("connection", default=None)


def client_is_gone() -> bool:
    """Whether the client of the request under way has reset its connection.

    A client that has only shut down its sending side still waits for its response (RFC 9112,
    section 9.6). Outside a request the answer is no.
    """
    connection = _CONNECTION.get()
    return connection is not None and connection.is_gone()


class BoundedConnection(web.RequestHandler):
    """aiohttp's protocol of one connection, inside the bounds of ``Connections``."""

    __slots__ = ("_connections", "_head_began", "_head_bytes", "_heads", "_writer")

    def __init__(self, server: web.Server, connections: "Connections", **options: Any) -> None:
        super().__init__(server, **options)
        # aiohttp keeps 32, each with a head of up to 2 MiB.
        self._max_msg_queue_size = MAX_QUEUED_REQUESTS
        self._msg_queue_resume_size = MAX_QUEUED_REQUESTS // 2
        self._connections = connections
        self._head_began = 0.0
        self._head_bytes = 0
        self._heads = 0  # The value of ``_request_count`` that the two above belong to.
        self._writer: AbstractStreamWriter | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, except a client that reset its connection while it was not accepted.

        Otherwise a full backlog of such connections delays all other clients by as many requests.
        """
        tcp = cast(asyncio.Transport, transport)  # uvloop's is not a subclass of it.
        if _is_reset(tcp):
            tcp.abort()
            return
        # Every unread byte counts. As a side effect a pipelined request waits until the response
        # before it is on its way.
        tcp.set_write_buffer_limits(0)
        self._head_began = self._loop.time()
        _CONNECTION.set(self)  # The task that serves the requests copies the context.
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release what this connection holds."""
        self._connections.discard(self)
        self._writer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse ``data``; note when a head begins and how large it becomes."""
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
            refused = _ErrInfo(status=400, exc=error, message=error.message)
            self._messages.append((refused, EMPTY_PAYLOAD))
            assert self._waiter is not None
            self._waiter.set_result(None)

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Any:
        """Send ``resp``. The body of the request is not kept while the client reads."""
        self._writer = request.writer
        request._read_bytes = None
        return super().finish_response(request, resp, start_time)

    def pause_writing(self) -> None:
        """Count the response: the socket did not take all of it."""
        super().pause_writing()
        transport, writer = self.transport, self._writer
        if transport is not None:
            # All of it is held until its last byte is sent.
            held = max(writer.output_size if writer else 0, transport.get_write_buffer_size())
            self._connections.unread.add(self, transport, held)

    def resume_writing(self) -> None:
        """Count it no more."""
        self._connections.unread.discard(self)
        super().resume_writing()

    def is_idle(self) -> bool:
        """Whether no request is under way."""
        waiter = self._waiter
        return waiter is not None and not waiter.done()

    def is_gone(self) -> bool:
        """Whether the client can take no response any more."""
        transport = self.transport
        return transport is None or transport.is_closing() or _is_reset(transport)

    @property
    def idle_since(self) -> float:
        """The end of the last response, or the begin of the connection, plus a constant."""
        return self._next_keepalive_close_time

    def is_late(self, now: float) -> bool:
        """Whether the head of a request was begun, or is awaited for the first time, too long."""
        return (
            self._heads == self._request_count
            and now - self._head_began >= HEADER_TIMEOUT
            and self.is_idle()
        )


class Connections:
    """All open connections of this process.

    ``max_count`` is how many there may be. When there are more, the longest idle are closed; a
    request under way is never closed for that.
    """

    def __init__(self, max_count: int) -> None:
        self.max_count = max_count
        self.unread = UnreadResponses()
        self._open: set[BoundedConnection] = set()
        self._is_full = False  # And it was logged.
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[BoundedConnection]:
        return iter(self._open)

    def start(self) -> None:
        """Check the time limits from now on."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(CHECK_INTERVAL, self._check_again, loop)

    def stop(self) -> None:
        """Check no more."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, connection: BoundedConnection) -> None:
        """Count an accepted connection, and make room where there are too many."""
        self._open.add(connection)
        if len(self._open) > self.max_count:
            self._make_room(connection)

    def discard(self, connection: BoundedConnection) -> None:
        """Count a closed connection no more."""
        self._open.discard(connection)
        self.unread.discard(connection)

    def check(self, now: float) -> None:
        """Close the connections whose time is over. ``now`` is on the clock of the event loop."""
        for connection in [each for each in self._open if each.is_late(now)]:
            connection.force_close()
        self.unread.check(now)
        if len(self._open) < self.max_count * 3 // 4:
            self._is_full = False

    def _check_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(CHECK_INTERVAL, self._check_again, loop)
        self.check(loop.time())

    def _make_room(self, newest: BoundedConnection) -> None:
        """Close the longest idle connections, or ``newest`` where every other one is busy."""
        if not self._is_full:
            self._is_full = True
            logger.warning("too many connections, closing the longest idle: max=%s", self.max_count)
        idle = [each for each in self._open if each.is_idle() and each is not newest]
        idle.sort(key=lambda each: each.idle_since)
        # Several at once, so that a flood of connections does not sort them for each of its own.
        for connection in idle[: 1 + self.max_count // 32] or [newest]:
            self._open.discard(connection)
            connection.force_close()


def _is_reset(transport: asyncio.Transport) -> bool:
    """Whether the client has reset the connection (Linux; elsewhere unknown until it is read)."""
    sock = transport.get_extra_info("socket")
    if sys.platform != "linux" or sock is None:
        return False
    try:
        state: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except OSError:  # Not a TCP socket, or closed.
        return False
    return state[0] == TCP_CLOSE
