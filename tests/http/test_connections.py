"""Test the number of connections, their time without a request, and resets by clients."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import orjson
import pytest
from aiohttp import web

from service.database.pool import DATABASE
from service.http.connections import HEADER_TIMEOUT, MAX_HEAD_BYTES, MAX_QUEUED_REQUESTS
from service.http.routes import Auth, RouteTableDef
from tests.conftest import SETTINGS, until_blocked
from tests.http.conftest import RawConnection, Serve
from tests.network import Network
from tests.responses import assert_error

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_BODY = b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{"


class Gate:
    """A route that responds after ``opened`` is set, and counts its requests in ``entered``."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.entered = 0
        self.routes = RouteTableDef()

        @self.routes.get("/gate", auth=Auth.NONE)
        async def gate(request: web.Request) -> web.Response:
            self.entered += 1
            await self.opened.wait()
            return web.Response(status=204)


GATE = b"GET /gate HTTP/1.1\r\nHost: x\r\n\r\n"


async def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` is true, for at most 20 seconds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


class Caller:
    """A client that sends raw bytes on one connection, which stays open between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self) -> bytes:
        """Request the health check and return the status line of the response."""
        self.writer.write(HEALTH)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await self.reader.readexactly(length)
        return head.split(b"\r\n")[0]

    def reset(self) -> None:
        """Close the connection with a reset, as a client does that is killed or aborts."""
        reset(self.writer.get_extra_info("socket"))
        self.writer.transport.abort()


Connect = Callable[..., Awaitable[Caller]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Yield a function that opens a connection and then sends bytes on it.

    With ``accepted``, it first waits until the server has accepted the connection.
    """
    callers: list[Caller] = []

    async def open_one(wire: RawConnection, sent: bytes = b"", *, accepted: bool = True) -> Caller:
        before = len(wire.server.connections)
        callers.append(Caller(*await asyncio.open_connection("127.0.0.1", wire.port)))
        if accepted:
            await until(lambda: len(wire.server.connections) > before)
        callers[-1].writer.write(sent)
        return callers[-1]

    yield open_one
    for caller in callers:
        caller.writer.close()


def later(seconds: float) -> float:
    """Return the time of the event loop in ``seconds`` from now."""
    return asyncio.get_running_loop().time() + seconds


def reset(sock: socket.socket) -> None:
    """Make the next close of ``sock`` send a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHo"], ids=["nothing", "half"])
async def test_connection_without_a_complete_head_is_closed_after_the_header_timeout(
    connect: Connect, wire: RawConnection, sent: bytes
) -> None:
    began = later(0)
    caller = await connect(wire, sent)
    (connection,) = wire.server.connections
    await until(lambda: connection._head_bytes == len(sent))
    wire.server.connections.check(began + HEADER_TIMEOUT * 0.9)
    assert len(wire.server.connections) == 1
    wire.server.connections.check(later(HEADER_TIMEOUT))
    assert await caller.reader.read() == b""


async def test_idle_keep_alive_connection_stays_open_after_the_header_timeout(
    connect: Connect, wire: RawConnection
) -> None:
    caller = await connect(wire)
    assert await caller.ask() == b"HTTP/1.1 200 OK"
    wire.server.connections.check(later(HEADER_TIMEOUT * 2))
    assert await caller.ask() == b"HTTP/1.1 200 OK"


async def test_incomplete_head_on_a_keep_alive_connection_is_closed_after_the_header_timeout(
    connect: Connect, wire: RawConnection
) -> None:
    caller = await connect(wire)
    assert await caller.ask() == b"HTTP/1.1 200 OK"
    caller.writer.write(HEALTH[:20])
    (connection,) = wire.server.connections
    await until(lambda: connection.is_late(later(HEADER_TIMEOUT)))
    assert not connection.is_late(later(0))
    wire.server.connections.check(later(HEADER_TIMEOUT))
    assert await caller.reader.read() == b""


async def test_header_timeout_does_not_end_a_running_request(
    connect: Connect, wire: RawConnection
) -> None:
    caller = await connect(wire, HALF_BODY)
    (connection,) = wire.server.connections
    await until(lambda: not connection.is_idle())
    wire.server.connections.check(later(HEADER_TIMEOUT * 5))
    caller.writer.write(b"}")
    assert (await caller.reader.readline()) == b"HTTP/1.1 400 Bad Request\r\n"


async def test_head_over_the_limit_is_rejected(wire: RawConnection) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1_000) for number in range(100))
    response = await wire.send(b"GET /health HTTP/1.1\r\n" + lines[: MAX_HEAD_BYTES + 1])
    too_long = {"request": ["has a line or a header that is too long"]}
    assert_error(response, 400, "bad_request", too_long)


async def test_pipelined_requests_are_not_read_while_the_queue_is_full(
    connect: Connect, serve: Serve
) -> None:
    gate = Gate()
    wire = await serve(gate.routes)
    caller = await connect(wire, GATE)
    await until(lambda: gate.entered)
    (connection,) = wire.server.connections
    assert connection.transport is not None
    caller.writer.write(GATE * MAX_QUEUED_REQUESTS)
    await until(lambda: len(connection._messages) == MAX_QUEUED_REQUESTS)
    assert not connection.transport.is_reading()
    gate.opened.set()
    caller.writer.write(GATE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert (await caller.reader.read()).count(b"HTTP/1.1 204") == 2 + MAX_QUEUED_REQUESTS


async def test_longest_idle_connections_are_closed_when_there_are_too_many(
    connect: Connect, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    wire = await serve(gate.routes)
    wire.server.connections.max_count = 8
    busy = await connect(wire, GATE)
    await until(lambda: gate.entered)
    idle = [await connect(wire) for _ in range(7)]
    assert await idle[0].ask() == b"HTTP/1.1 200 OK"  # Now the other six have been idle for longer.
    for number in range(1, 6):
        newest = await connect(wire, accepted=False)
        assert await idle[number].reader.read() == b""
        assert await newest.ask() == b"HTTP/1.1 200 OK"
    assert await idle[0].ask() == b"HTTP/1.1 200 OK"
    gate.opened.set()
    assert await busy.reader.readline() == b"HTTP/1.1 204 No Content\r\n"
    assert [record.getMessage() for record in caplog.records] == [
        "too many connections, closing the longest idle: max=8"
    ]


async def test_newest_connection_is_closed_when_all_others_have_running_requests(
    connect: Connect,
    serve: Serve,
) -> None:
    gate = Gate()
    wire = await serve(gate.routes)
    wire.server.connections.max_count = 3
    busy = [await connect(wire, GATE) for _ in range(3)]
    await until(lambda: gate.entered == 3)
    newest = await connect(wire, accepted=False)
    assert await newest.reader.read() == b""
    gate.opened.set()
    for caller in busy:
        assert await caller.reader.readline() == b"HTTP/1.1 204 No Content\r\n"


async def test_connections_that_are_reset_before_they_are_accepted_start_no_request(
    serve: Serve,
) -> None:
    gate = Gate()
    gate.opened.set()
    wire = await serve(gate.routes)
    for _ in range(100):  # The event loop does not run here, so they wait in the backlog.
        sock = socket.create_connection(("127.0.0.1", wire.port))
        sock.sendall(GATE)
        reset(sock)
        sock.close()
    response = await wire.send(GATE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert (response.status, gate.entered) == (204, 1)


async def test_request_runs_no_statement_when_its_client_resets_while_it_waits_for_a_connection(
    connect: Connect,
    serve: Serve,
) -> None:
    routes = RouteTableDef()
    held, released = asyncio.Semaphore(0), asyncio.Event()
    ran: list[str] = []

    @routes.get("/use/{name}", auth=Auth.NONE)
    async def use(request: web.Request) -> web.Response:
        name = request.match_info["name"]

        async def run(_: asyncpg.Connection) -> None:
            ran.append(name)
            if name == "hold":
                held.release()
                await released.wait()

        await request.app[DATABASE].transact(run)
        return web.Response(status=204)

    wire = await serve(routes)
    size = int(SETTINGS["database_pool_size"])
    holders = [
        await connect(wire, b"GET /use/hold HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(size)
    ]
    async with asyncio.timeout(20):
        for _ in holders:
            await held.acquire()
    gone = [await connect(wire, b"GET /use/gone HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(40)]
    waiters = wire.server._app[DATABASE]._slots._waiters
    await until(lambda: len(waiters or ()) == len(gone))
    for caller in gone:
        caller.reset()
    await until(lambda: len(wire.server.connections) == size)
    stranger = await connect(wire, b"GET /use/stranger HTTP/1.1\r\nHost: x\r\n\r\n")
    released.set()
    assert await stranger.reader.readline() == b"HTTP/1.1 204 No Content\r\n"
    assert ran == ["hold"] * size + ["stranger"]
    lines = [orjson.loads(line) for line in wire.log.getvalue().splitlines()]
    assert [line["status"] for line in lines].count(499) == len(gone)


async def test_resets_during_a_statement_open_no_connections_to_postgresql(
    connect: Connect, serve: Serve, database_url: str, db: asyncpg.Connection
) -> None:
    """Canceling a statement needs another connection, which costs more than finishing it."""
    routes = RouteTableDef()

    @routes.get("/locked", auth=Auth.NONE)
    async def locked(request: web.Request) -> web.Response:
        async def run(connection: asyncpg.Connection) -> None:
            await connection.execute("select pg_advisory_xact_lock_shared(1)")

        await request.app[DATABASE].transact(run)
        return web.Response(status=204)

    async with Network(database_url) as network:
        # The statements occupy the whole pool, and no listener connects: another connection can
        # only be one that cancels a statement.
        size = 10
        wire = await serve(routes, network.url, database_pool_size=size, user_cache_size=0)
        await db.execute("select pg_advisory_lock(1)")
        get = b"GET /locked HTTP/1.1\r\nHost: x\r\n\r\n"
        callers = [await connect(wire, get) for _ in range(size)]
        await until_blocked(db, size)
        for caller in callers:
            caller.reset()
        await until(lambda: not len(wire.server.connections))
        await db.execute("select pg_advisory_unlock(1)")
        stranger = await connect(wire, get)
        assert await stranger.reader.readline() == b"HTTP/1.1 204 No Content\r\n"
        assert network.connections == size
        await wire.server.stop()


async def test_reset_upload_is_logged_once_with_499(
    wire: RawConnection, caplog: pytest.LogCaptureFixture
) -> None:
    sock = socket.create_connection(("127.0.0.1", wire.port))
    sock.sendall(HALF_BODY)
    await until(lambda: any(not each.is_idle() for each in wire.server.connections))
    reset(sock)
    sock.close()
    await until(wire.log.getvalue)
    await until(lambda: not len(wire.server.connections))
    (line,) = map(orjson.loads, wire.log.getvalue().splitlines())
    assert (line["status"], line["level"], line["route"]) == (499, "info", "/api/users")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
