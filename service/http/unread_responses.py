"""Limit the memory of responses that clients do not read."""

import asyncio
import contextlib
import fcntl
import logging
import socket
import sys
import termios
from collections.abc import Hashable

logger = logging.getLogger(__name__)

UNREAD_TIMEOUT = 30.0  # Seconds that a client may take to read UNREAD_PROGRESS bytes.
UNREAD_PROGRESS = 16_384
MAX_UNREAD_BYTES = 67_108_864  # Total of this process, for responses that clients have not read.
MAX_KERNEL_BYTES = 131_072  # Per connection, in addition to the bytes in the client's window.


def limit_kernel_buffers(listening: socket.socket) -> None:
    """Limit the unsent bytes in the kernel for each connection accepted on ``listening``.

    By default the kernel's buffer grows to 4 MiB per connection. An unread response would fit into
    it and appear to be sent.
    """
    if option := getattr(socket, "TCP_NOTSENT_LOWAT", None):
        listening.setsockopt(socket.IPPROTO_TCP, option, MAX_KERNEL_BYTES)


class UnreadResponses:
    """The responses of this process that clients have not read, each under a key.

    A connection is aborted if its client reads less than ``UNREAD_PROGRESS`` bytes within
    ``UNREAD_TIMEOUT``. If all responses together exceed ``MAX_UNREAD_BYTES``, the connections
    without progress for the longest time are aborted.
    """

    def __init__(self) -> None:
        self.held_bytes = 0
        """The total bytes of all unread responses."""
        self._responses: dict[Hashable, _Response] = {}
        self._is_over_limit = False  # Log once until the total has fallen again.

    def add(self, key: Hashable, transport: asyncio.Transport, held: int) -> None:
        """Count a response that occupies ``held`` bytes of memory until its last byte is sent."""
        now = asyncio.get_running_loop().time()
        self._responses[key] = _Response(transport, held, now)
        self.held_bytes += held
        if self.held_bytes > MAX_UNREAD_BYTES:
            self._abort_longest_unread(now)

    def discard(self, key: Hashable) -> None:
        """Stop counting a response that was sent or whose connection is closed."""
        if response := self._responses.pop(key, None):
            self.held_bytes -= response.held

    def check(self, now: float) -> None:
        """Abort the connections past ``UNREAD_TIMEOUT``. ``now`` is the event loop's time."""
        for response in list(self._responses.values()):
            response.note_progress(now)
            if now - response.progressed_at >= UNREAD_TIMEOUT:
                response.transport.abort()
        if self.held_bytes < MAX_UNREAD_BYTES // 2:
            self._is_over_limit = False

    def _abort_longest_unread(self, now: float) -> None:
        """Abort responses until an eighth of the limit is free.

        With a smaller step, a flood of responses would sort all of them each time.
        """
        if not self._is_over_limit:
            self._is_over_limit = True
            logger.warning(
                "too many unread responses, aborting the longest unread: max_bytes=%s",
                MAX_UNREAD_BYTES,
            )
        for response in self._responses.values():
            response.note_progress(now)
        ordered = sorted(self._responses.items(), key=lambda item: item[1].progressed_at)
        for key, response in ordered:
            if self.held_bytes <= MAX_UNREAD_BYTES * 7 // 8:
                break
            self.discard(key)
            response.transport.abort()


class _Response:
    """A response that its client has not read completely."""

    __slots__ = ("_left", "held", "progressed_at", "transport")

    def __init__(self, transport: asyncio.Transport, held: int, now: float) -> None:
        self.transport = transport
        self.held = held
        self.progressed_at = now
        self._left = _unacknowledged(transport)

    def note_progress(self, now: float) -> None:
        """Set ``progressed_at`` to ``now`` if ``UNREAD_PROGRESS`` bytes were read since then."""
        left = _unacknowledged(self.transport)
        if left <= self._left - UNREAD_PROGRESS:
            self._left = left
            self.progressed_at = now


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Return how many bytes in the transport and in the kernel the client has not acknowledged.

    The kernel takes more bytes from the transport only when it has space for many. With a slow
    client this can take longer than ``UNREAD_TIMEOUT``. The kernel's own bytes show that such a
    client still reads.
    """
    left = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sys.platform == "linux" and sock is not None and sock.fileno() >= 0:
        with contextlib.suppress(OSError):
            queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
            left += int.from_bytes(queued, sys.byteorder)
    return left
