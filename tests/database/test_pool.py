"""Test the pool: transactions, cancelled requests, order, and errors that are not outages."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

import sql
from service.database import pool
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import Database
from tests.conftest import COUNT_BLOCKED, COUNT_SLEEPING, Client, MakeClient

SIZE = 4


@pytest.fixture
async def database(database_url: str, db: asyncpg.Connection) -> AsyncIterator[Database]:
    """Open a small pool on the migrated database."""
    opened = Database(database_url, SIZE)
    await opened.open()
    yield opened
    await opened.close()


async def insert_user(runner: Database | asyncpg.Connection, name: str) -> None:
    """Insert a user."""
    await sql.users.insert(
        runner, username=name, username_key=name, email=name, email_key=name, password_hash="x"
    )


@contextlib.asynccontextmanager
async def acquired(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Hold one connection of the pool."""
    connection = await database._acquire(database._slots)
    try:
        yield connection
    finally:
        await database._release(connection, database._slots)


async def is_intact(database: Database) -> bool:
    """Return whether all connections can be used simultaneously, none of them in a transaction."""
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(10):
            for _ in range(SIZE):
                connection = await stack.enter_async_context(acquired(database))
                assert not connection.is_in_transaction()
                assert await connection.fetchval(COUNT_BLOCKED) == 0
    return await database.ping()


async def test_transact_commits_at_the_end(database: Database, db: asyncpg.Connection) -> None:
    async def work(connection: asyncpg.Connection) -> int:
        await insert_user(connection, "jake")
        return int(await db.fetchval("select count(*) from users"))

    assert await database.transact(work) == 0
    assert await db.fetchval("select count(*) from users") == 1


@pytest.mark.parametrize("failure", [ZeroDivisionError, asyncpg.UniqueViolationError, ValueError])
async def test_transact_rolls_back_and_releases_the_connection_when_work_raises(
    database: Database, db: asyncpg.Connection, failure: type[Exception]
) -> None:
    runs = 0

    async def work(connection: asyncpg.Connection) -> None:
        nonlocal runs
        runs += 1
        await insert_user(connection, "jake")
        raise failure("on purpose")

    for _ in range(SIZE + 1):
        with pytest.raises(failure):
            await database.transact(work)
    assert runs == SIZE + 1
    assert await db.fetchval("select count(*) from users") == 0
    assert await is_intact(database)


async def test_transact_raises_database_unavailable_when_the_connection_is_lost(
    database: Database, db: asyncpg.Connection
) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await insert_user(connection, "jake")
        pid = await connection.fetchval("select pg_backend_pid()")
        await db.execute("select pg_terminate_backend($1)", pid)
        await insert_user(connection, "anne")

    for _ in range(SIZE + 1):
        with pytest.raises(DatabaseUnavailable):
            await database.transact(work)
    assert await db.fetchval("select count(*) from users") == 0
    assert await is_intact(database)


async def test_pool_stays_intact_when_tasks_are_cancelled_at_any_moment(
    database: Database, db: asyncpg.Connection
) -> None:
    async def change(name: str) -> None:
        async def work(connection: asyncpg.Connection) -> None:
            await insert_user(connection, name)
            await insert_user(connection, f"{name} again")

        await database.transact(work)

    # Cancel after more and more iterations of the event loop: during acquire, begin, each
    # statement, commit and release.
    for iterations in range(120):
        work = [asyncio.create_task(change(f"{iterations} {number}")) for number in range(SIZE + 2)]
        reads = [
            asyncio.create_task(sql.users.find_id(database, email_key="nobody"))
            for _ in range(SIZE + 2)
        ]
        for _ in range(iterations):
            await asyncio.sleep(0)
        for task in work + reads:
            task.cancel()
        results = await asyncio.gather(*work, *reads, return_exceptions=True)
        unexpected = [
            r for r in results if r is not None and not isinstance(r, asyncio.CancelledError)
        ]
        assert not unexpected
    assert await is_intact(database)
    # Each transaction took effect completely or not at all.
    assert (
        await db.fetchval(
            "select count(*) from users one where not exists (select from users other"
            " where replace(other.username, ' again', '') = replace(one.username, ' again', '')"
            " and other.id <> one.id)"
        )
        == 0
    )
    # A transaction that a cancelled task left open would never commit these inserts.
    await asyncio.gather(*(insert_user(database, f"last {number}") for number in range(SIZE * 3)))
    assert await db.fetchval("select count(*) from users where username like 'last%'") == SIZE * 3


async def test_pool_stays_intact_when_clients_disconnect(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(database_pool_size=SIZE)
    token = await client.register("jake")
    for iterations in range(0, 200, 4):
        requests = [asyncio.create_task(request_user(client, token)) for _ in range(SIZE + 2)]
        for _ in range(iterations):
            await asyncio.sleep(0)
        for task in requests:
            task.cancel()  # The test's client closes the connection of a cancelled request.
        await asyncio.gather(*requests, return_exceptions=True)
    statuses = await asyncio.gather(*(request_user(client, token) for _ in range(SIZE * 5)))
    assert set(statuses) == {200}


async def request_user(client: Client, token: str) -> int:
    """Return the status of a request that uses the database."""
    return (await client.get("/api/user", token=token)).status


@pytest.mark.parametrize("argument", ["\ud800", 3, object()], ids=["surrogate", "number", "object"])
async def test_invalid_argument_is_not_an_outage(database: Database, argument: object) -> None:
    with pytest.raises((ValueError, asyncpg.DataError)):
        async with asyncio.timeout(2):
            await sql.users.find_id(database, email_key=argument)
    assert await database.ping()


@pytest.mark.parametrize(
    "parameters",
    ["connect_timeout=10", "channel_binding=prefer", "keepalives=1&application_name=service"],
)
async def test_url_may_have_parameters_that_only_libpq_supports(
    database_url: str, parameters: str
) -> None:
    database = Database(f"{database_url}{'&' if '?' in database_url else '?'}{parameters}", 1)
    await database.open()
    try:
        assert await database.ping()
    finally:
        await database.close()


async def test_pool_connects_to_the_host_that_responds(database_url: str) -> None:
    if "host=" not in database_url:
        pytest.skip("the server of this run is not reached through a Unix socket")
    database = Database(database_url.replace("host=", "host=/nowhere,"), 1)
    await database.open()
    try:
        assert await database.ping()
    finally:
        await database.close()


async def test_close_does_not_wait_for_a_statement_that_hangs(
    database: Database, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CLOSE_TIMEOUT", 0.1)

    async def hang(connection: asyncpg.Connection) -> None:
        await connection.execute("select pg_sleep(60)")

    task = asyncio.create_task(database.transact(hang))
    async with asyncio.timeout(10):
        while not await db.fetchval(COUNT_SLEEPING):
            await asyncio.sleep(0.01)
        await database.close()
        with pytest.raises(DatabaseUnavailable):
            await task


async def test_connections_are_acquired_in_fifo_order(database_url: str) -> None:
    """A new caller does not take a connection that was released for a waiter."""
    database = Database(database_url, 1)
    await database.open()

    async def use_connection(name: str, delay: int = 0) -> None:
        for _ in range(delay):
            await asyncio.sleep(0)
        async with acquired(database):
            order.append(name)

    for delay in range(6):
        order: list[str] = []
        connection = await database._acquire(database._slots)
        first = asyncio.create_task(use_connection("first"))
        await asyncio.sleep(0)
        await asyncio.gather(
            database._release(connection, database._slots), use_connection("second", delay), first
        )
        assert order == ["first", "second"]
    await database.close()


async def test_reserved_connection_is_available_when_all_others_are_in_use(
    database: Database,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(SIZE):
            await stack.enter_async_context(acquired(database))
        waiting = asyncio.create_task(insert_user(database, "jake"))
        for _ in range(3):
            assert await sql.change_listener.send_heartbeat(database.reserved, channel="x")
            assert await database.ping()
        assert not waiting.done()
    await waiting


async def test_simultaneous_pings_share_one_statement(database_url: str) -> None:
    """A flood of health checks must not delay heartbeats, which use the same connection."""
    database = Database(database_url, 1)
    await database.open()
    pings: list[str] = []

    def record_query(statement: Any) -> None:
        pings.append(statement.query)

    connection = await database._acquire(database._reserved_slot)
    connection.add_query_logger(record_query)
    checks = [asyncio.create_task(database.ping()) for _ in range(50)]
    await asyncio.sleep(0)
    await database._release(connection, database._reserved_slot)
    assert await asyncio.gather(*checks) == [True] * 50
    assert len(pings) == 1
    assert await database.ping()
    assert len(pings) == 2, "a later ping is a new statement"
    await database.close()
