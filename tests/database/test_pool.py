"""Test the connection pool: transactions, lost clients, errors that are not outages."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

import sql
from service.database import pool
from service.database.pool import Database, DatabaseUnavailable
from tests.conftest import COUNT_BLOCKED, COUNT_SLEEPING, Client, MakeClient

SIZE = 4


@pytest.fixture
async def database(database_url: str, db: asyncpg.Connection) -> AsyncIterator[Database]:
    """Open a small pool on the migrated database."""
    opened = Database(database_url, SIZE)
    await opened.open()
    yield opened
    await opened.close()


async def insert(on: Database | asyncpg.Connection, name: str) -> None:
    """Insert a user."""
    await sql.users.insert(
        on, username=name, username_key=name, email=name, email_key=name, password_hash="x"
    )


@contextlib.asynccontextmanager
async def borrowed(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Hold one connection of the pool."""
    connection = await database._borrow(database._turns)
    try:
        yield connection
    finally:
        await database._release(connection, database._turns)


async def is_whole(database: Database) -> bool:
    """Return whether all connections can be used simultaneously, none of them in a transaction."""
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(10):
            for _ in range(SIZE):
                connection = await stack.enter_async_context(borrowed(database))
                assert not connection.is_in_transaction()
                assert await connection.fetchval(COUNT_BLOCKED) == 0
    return await database.answers()


async def test_a_transaction_is_committed_at_its_end(
    database: Database, db: asyncpg.Connection
) -> None:
    async def work(connection: asyncpg.Connection) -> int:
        await insert(connection, "jake")
        return int(await db.fetchval("select count(*) from users"))

    assert await database.transact(work) == 0
    assert await db.fetchval("select count(*) from users") == 1


@pytest.mark.parametrize("failure", [ZeroDivisionError, asyncpg.UniqueViolationError, ValueError])
async def test_a_transaction_that_fails_is_rolled_back_and_gives_its_connection_back(
    database: Database, db: asyncpg.Connection, failure: type[Exception]
) -> None:
    runs = 0

    async def work(connection: asyncpg.Connection) -> None:
        nonlocal runs
        runs += 1
        await insert(connection, "jake")
        raise failure("on purpose")

    for _ in range(SIZE + 1):
        with pytest.raises(failure):
            await database.transact(work)
    assert runs == SIZE + 1
    assert await db.fetchval("select count(*) from users") == 0
    assert await is_whole(database)


async def test_a_transaction_whose_connection_is_lost_says_so(
    database: Database, db: asyncpg.Connection
) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await insert(connection, "jake")
        pid = await connection.fetchval("select pg_backend_pid()")
        await db.execute("select pg_terminate_backend($1)", pid)
        await insert(connection, "anne")

    for _ in range(SIZE + 1):
        with pytest.raises(DatabaseUnavailable):
            await database.transact(work)
    assert await db.fetchval("select count(*) from users") == 0
    assert await is_whole(database)


async def test_what_is_cancelled_at_any_moment_leaves_the_pool_whole(
    database: Database, db: asyncpg.Connection
) -> None:
    async def change(name: str) -> None:
        async def work(connection: asyncpg.Connection) -> None:
            await insert(connection, name)
            await insert(connection, f"{name} again")

        await database.transact(work)

    # Cancel after more and more iterations of the event loop: during acquire, begin, each
    # statement, commit and release.
    for turns in range(120):
        work = [asyncio.create_task(change(f"{turns} {number}")) for number in range(SIZE + 2)]
        reads = [
            asyncio.create_task(sql.users.find_id(database, email_key="nobody"))
            for _ in range(SIZE + 2)
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in work + reads:
            task.cancel()
        results = await asyncio.gather(*work, *reads, return_exceptions=True)
        unexpected = [
            r for r in results if r is not None and not isinstance(r, asyncio.CancelledError)
        ]
        assert not unexpected
    assert await is_whole(database)
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
    await asyncio.gather(*(insert(database, f"last {number}") for number in range(SIZE * 3)))
    assert await db.fetchval("select count(*) from users where username like 'last%'") == SIZE * 3


async def test_clients_that_disconnect_leave_the_pool_whole(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(database_pool_size=SIZE)
    token = await client.register("jake")
    for turns in range(0, 200, 4):
        asked = [asyncio.create_task(ask(client, token)) for _ in range(SIZE + 2)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in asked:
            task.cancel()  # The test's client closes the connection of a cancelled request.
        await asyncio.gather(*asked, return_exceptions=True)
    statuses = await asyncio.gather(*(ask(client, token) for _ in range(SIZE * 5)))
    assert set(statuses) == {200}


async def ask(client: Client, token: str) -> int:
    """Return the status of a request that uses the database."""
    return (await client.get("/api/user", token=token)).status


@pytest.mark.parametrize("argument", ["\ud800", 3, object()], ids=["surrogate", "number", "object"])
async def test_an_argument_that_no_statement_takes_is_a_fault_not_an_outage(
    database: Database, argument: object
) -> None:
    with pytest.raises((ValueError, asyncpg.DataError)):
        async with asyncio.timeout(2):
            await sql.users.find_id(database, email_key=argument)
    assert await database.answers()


@pytest.mark.parametrize(
    "parameters",
    ["connect_timeout=10", "channel_binding=prefer", "keepalives=1&application_name=service"],
)
async def test_a_url_may_say_what_only_libpq_understands(
    database_url: str, parameters: str
) -> None:
    database = Database(f"{database_url}{'&' if '?' in database_url else '?'}{parameters}", 1)
    await database.open()
    try:
        assert await database.answers()
    finally:
        await database.close()


async def test_of_several_hosts_one_that_answers_is_enough(database_url: str) -> None:
    if "host=" not in database_url:
        pytest.skip("the server of this run has no socket folder")
    database = Database(database_url.replace("host=", "host=/nowhere,"), 1)
    await database.open()
    try:
        assert await database.answers()
    finally:
        await database.close()


async def test_closing_does_not_wait_for_a_statement_that_hangs(
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


async def test_connections_are_given_in_the_order_of_asking(database_url: str) -> None:
    """A new caller does not take a connection that was released for a waiter."""
    database = Database(database_url, 1)
    await database.open()

    async def ask(name: str, later: int = 0) -> None:
        for _ in range(later):
            await asyncio.sleep(0)
        async with borrowed(database):
            order.append(name)

    for later in range(6):
        order: list[str] = []
        connection = await database._borrow(database._turns)
        first = asyncio.create_task(ask("first"))
        await asyncio.sleep(0)
        await asyncio.gather(
            database._release(connection, database._turns), ask("second", later), first
        )
        assert order == ["first", "second"]
    await database.close()


async def test_what_must_not_wait_has_a_connection_when_all_are_taken(
    database: Database,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(SIZE):
            await stack.enter_async_context(borrowed(database))
        waiting = asyncio.create_task(insert(database, "jake"))
        for _ in range(3):
            assert await sql.change_listener.send_heartbeat(database.spare, channel="x")
            assert await database.answers()
        assert not waiting.done()
    await waiting


async def test_simultaneous_pings_are_one_statement(database_url: str) -> None:
    """A flood of health checks must not delay heartbeats, which use the same connection."""
    database = Database(database_url, 1)
    await database.open()
    pings: list[str] = []

    def note(statement: Any) -> None:
        pings.append(statement.query)

    connection = await database._borrow(database._spare)
    connection.add_query_logger(note)
    checks = [asyncio.create_task(database.answers()) for _ in range(50)]
    await asyncio.sleep(0)
    await database._release(connection, database._spare)
    assert await asyncio.gather(*checks) == [True] * 50
    assert len(pings) == 1
    assert await database.answers()
    assert len(pings) == 2, "a later one is sent anew"
    await database.close()
