"""Test the memory limit of responses that clients do not read. The clients are real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable

import pytest
from aiohttp import ClientSession, web

from service.http import unread_responses
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.http.streamed_json import StreamedJson
from service.http.unread_responses import (
    MAX_KERNEL_BYTES,
    UNREAD_PROGRESS,
    UNREAD_TIMEOUT,
    UnreadResponses,
)
from tests.http.conftest import RawConnection, Serve

SIZE = 1_000_000
GET = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSE = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


class Service:
    """The service with a route that returns a large response, and its number of requests."""

    def __init__(self, wire: RawConnection) -> None:
        self.wire = wire
        self.served = 0

    @property
    def held_bytes(self) -> int:
        """Return the bytes of all unread responses."""
        return self.wire.server.connections.unread.held_bytes

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition`` is true, for at most 20 seconds."""
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.001)

    def check(self, seconds: float) -> None:
        """Check the time limits as if ``seconds`` had passed."""
        self.wire.server.connections.check(asyncio.get_running_loop().time() + seconds)


@pytest.fixture
async def service(serve: Serve) -> Service:
    """Return the service with a large, a small and a tiny response, which is written in a batch."""
    routes = RouteTableDef()

    @routes.get("/small", auth=Auth.NONE)
    async def small(request: web.Request) -> web.StreamResponse:
        return json_response({"small": "x" * 20_000})

    @routes.get("/tiny", auth=Auth.NONE)
    async def tiny(request: web.Request) -> web.StreamResponse:
        return json_response({"tiny": "x" * 10_000})

    @routes.get("/large", auth=Auth.NONE)
    async def large(request: web.Request) -> web.StreamResponse:
        started.served += 1
        return json_response({"large": "x" * SIZE})

    started = Service(await serve(routes))
    return started


Open = Callable[[Service, bytes], Awaitable[socket.socket]]


@pytest.fixture
async def open_socket() -> AsyncIterator[Open]:
    """Yield a function that opens a connection with a small window and sends bytes on it."""
    sockets: list[socket.socket] = []

    async def open_one(service: Service, sent: bytes) -> socket.socket:
        sockets.append(socket.socket())
        sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sockets[-1].setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sockets[-1], ("127.0.0.1", service.wire.port))
        await loop.sock_sendall(sockets[-1], sent)
        return sockets[-1]

    yield open_one
    for each in sockets:
        each.close()


async def read(sock: socket.socket, count: int = SIZE * 100) -> int:
    """Read at least ``count`` bytes, or to the end. Return the number of bytes read."""
    received = 0
    while received < count:
        try:
            data = await asyncio.get_running_loop().sock_recv(sock, 65_536)
        except ConnectionResetError:
            break
        if not data:
            break
        received += len(data)
    return received


async def test_connection_is_aborted_after_the_unread_timeout_when_the_client_reads_nothing(
    service: Service, open_socket: Open
) -> None:
    sock = await open_socket(service, GET)
    await service.until(lambda: service.held_bytes)
    assert service.held_bytes > SIZE
    service.check(UNREAD_TIMEOUT * 0.9)
    assert service.held_bytes > SIZE
    service.check(UNREAD_TIMEOUT)
    await service.until(lambda: not service.held_bytes)
    assert await read(sock) < MAX_KERNEL_BYTES * 2
    assert len(service.wire.server.connections) == 0


async def test_slow_client_gets_its_complete_response(service: Service, open_socket: Open) -> None:
    sock = await open_socket(service, CLOSE)
    await service.until(lambda: service.held_bytes)
    count, seconds = 0, 0.0
    while service.held_bytes:
        assert service.held_bytes > SIZE  # All of it stays in memory until its last byte is sent.
        count += await read(sock, UNREAD_PROGRESS * 2)
        seconds += UNREAD_TIMEOUT * 0.9
        service.check(seconds)
        await asyncio.sleep(0)
    assert count + await read(sock) > SIZE
    assert seconds > UNREAD_TIMEOUT * 5


async def test_longest_unread_responses_are_aborted_when_all_exceed_the_limit(
    service: Service,
    open_socket: Open,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limit = SIZE * 8
    monkeypatch.setattr(unread_responses, "MAX_UNREAD_BYTES", limit)
    reading = await open_socket(service, CLOSE)
    await service.until(lambda: service.held_bytes)
    count, others = 0, []
    for number in range(20):
        others.append(await open_socket(service, GET))
        await service.until(lambda: service.served == number + 2)  # noqa: B023
        assert service.held_bytes <= limit
        count += await read(reading, UNREAD_PROGRESS * 2)
    assert count + await read(reading) > SIZE
    for sock in others[:10]:
        assert await read(sock) < SIZE
    assert [record.getMessage() for record in caplog.records] == [
        f"too many unread responses, aborting the longest unread: max_bytes={limit}"
    ]


async def test_pipelined_request_waits_until_the_previous_response_is_read(
    service: Service, open_socket: Open
) -> None:
    sock = await open_socket(service, GET * 30 + CLOSE)
    await service.until(lambda: service.held_bytes)
    for _ in range(100):
        await asyncio.sleep(0)
    assert service.served == 1
    assert service.held_bytes < SIZE * 2
    assert await read(sock) > SIZE * 31
    assert service.served == 31


async def test_request_waits_until_the_batched_response_before_is_read(
    service: Service, open_socket: Open
) -> None:
    sock = await open_socket(service, b"")
    await fill(service, sock, "tiny")
    await asyncio.get_running_loop().sock_sendall(sock, CLOSE)
    for _ in range(100):
        await asyncio.sleep(0)
    assert service.served == 0
    assert await read(sock) > SIZE
    assert service.served == 1


async def fill(service: Service, sock: socket.socket, path: str) -> None:
    """Request ``path`` until the kernel does not take all of a response."""
    await service.until(lambda: len(service.wire.server.connections))
    (connection,) = service.wire.server.connections
    transport, count = connection.transport, 0
    assert transport is not None
    while not transport.get_write_buffer_size():
        sent = GET.replace(b"large", path.encode())
        await asyncio.get_running_loop().sock_sendall(sock, sent)
        count += 1
        log = service.wire.log
        await service.until(lambda: log.getvalue().count(path) == count)  # noqa: B023
        await asyncio.sleep(0)


@pytest.mark.parametrize(("path", "size"), [("small", 20_000), ("tiny", 10_000)])
async def test_smallest_unread_part_of_a_response_counts(
    service: Service, open_socket: Open, path: str, size: int
) -> None:
    sock = await open_socket(service, b"")
    await fill(service, sock, path)
    assert service.held_bytes > size


async def test_stream_counts_only_its_current_piece(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * SIZE

    routes = RouteTableDef()

    @routes.get("/stream", auth=Auth.NONE)
    async def stream(_: web.Request) -> web.StreamResponse:
        return StreamedJson(pieces(), {})

    def add(
        unread: UnreadResponses, key: Hashable, transport: asyncio.Transport, held: int
    ) -> None:
        counts.append(held)
        count(unread, key, transport, held)

    count = UnreadResponses.add
    monkeypatch.setattr(UnreadResponses, "add", add)
    monkeypatch.setattr(unread_responses, "MAX_UNREAD_BYTES", 5 * SIZE)
    wire = await serve(routes)
    url = f"http://127.0.0.1:{wire.port}/stream"
    async with ClientSession() as session, session.get(url) as response:
        assert len(await response.read()) == 20 * SIZE
    assert counts
    assert max(counts) <= 2 * SIZE
