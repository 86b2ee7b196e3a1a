"""A bound on the memory of responses that clients do not read."""

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
MAX_UNREAD_BYTES = 67_108_864  # Bytes of all responses of this process that wait for their clients.
MAX_KERNEL_BYTES = 131_072  # Of one connection, besides those that fill the client's window.


def limit_kernel_buffers(listening: socket.socket) -> None:
    """Let the kernel buffer few unsent bytes of each connection accepted on ``listening``.

    By default its buffer grows to 4 MiB a connection, so that a response that its client does not
    read appears to be sent.
    """
    if option := getattr(socket, "TCP_NOTSENT_LOWAT", None):
        listening.setsockopt(socket.IPPROTO_TCP, option, MAX_KERNEL_BYTES)


class UnreadResponses:
    """The responses of this process that their clients have not read, each under a key.

    A connection is aborted when its client reads nothing for ``UNREAD_TIMEOUT``. Past
    ``MAX_UNREAD_BYTES`` those are aborted that have read nothing for the longest time.
    """

    def __init__(self) -> None:
        self.held_bytes = 0
        """The bytes of all of them together."""
        self._responses: dict[Hashable, _Response] = {}
        self._is_over_limit = False  # And it was logged.

    def add(self, key: Hashable, transport: asyncio.Transport, held: int) -> None:
        """Count a response that takes ``held`` bytes of memory until its last byte is sent."""
        now = asyncio.get_running_loop().time()
        self._responses[key] = _Response(transport, held, now)
        self.held_bytes += held
        if self.held_bytes > MAX_UNREAD_BYTES:
            self._abort_longest_unread(now)

    def discard(self, key: Hashable) -> None:
        """Count a response no more: it was sent, or its connection is closed."""
        if response := self._responses.pop(key, None):
            self.held_bytes -= response.held

    def check(self, now: float) -> None:
        """Abort those whose time is over. ``now`` is on the clock of the event loop."""
        for response in list(self._responses.values()):
            response.note_progress(now)
            if now - response.progressed_at >= UNREAD_TIMEOUT:
                response.transport.abort()
        if self.held_bytes < MAX_UNREAD_BYTES // 2:
            self._is_over_limit = False

    def _abort_longest_unread(self, now: float) -> None:
        """Abort an eighth of the bytes at once, so that a flood does not sort them each time."""
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
    """One response whose client has not read all of it."""

    __slots__ = ("_left", "held", "progressed_at", "transport")

    def __init__(self, transport: asyncio.Transport, held: int, now: float) -> None:
        self.transport = transport
        self.held = held
        self.progressed_at = now
        self._left = _unacknowledged(transport)

    def note_progress(self, now: float) -> None:
        """Set ``progressed_at`` to ``now`` if the client has read enough since it was set."""
        left = _unacknowledged(self.transport)
        if left <= self._left - UNREAD_PROGRESS:
            self._left = left
            self.progressed_at = now


def _unacknowledged(transport: asyncio.Transport) -> int:
    """The bytes that the client has not acknowledged, here and in the kernel's buffer.

    The kernel takes more from here only once it has room for many bytes, which for a slow client
    is later than the time limit. Counting its bytes too shows that such a client reads.
    """
    left = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sys.platform == "linux" and sock is not None and sock.fileno() >= 0:
        with contextlib.suppress(OSError):
            queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
            left += int.from_bytes(queued, sys.byteorder)
    return left
