"""Deadlocks and serialization failures: what PostgreSQL rolled back runs once more."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

import sql
from service.database import pool
from service.database.pool import Database
from tests.conftest import until_blocked

GATE = 7_310_007  # The number of an advisory lock that only these tests take.

LOCK_BOTH = sql.parse(
    Path("test.sql"),
    f"""-- name: lock_both() -> value
with first as materialized (
    select id from users where username = 'alice' for update
),
gate as materialized (
    select pg_advisory_xact_lock({GATE}) from first
),
second as materialized (
    select users.id from users cross join gate where username = 'bob' for update of users
)
select count(*) from second
""",  # noqa: S608
).lock_both


@pytest.fixture
async def database(database_url: str, db: asyncpg.Connection) -> AsyncIterator[Database]:
    """A pool over a database with two users."""
    for name in ("alice", "bob"):
        await sql.users.insert(
            db, username=name, username_key=name, email=name, email_key=name, password_hash="x"
        )
    opened = Database(database_url, 2)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def other(database_url: str, db: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """Another connection, which is never the victim of a deadlock."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("set deadlock_timeout = '1h'")
    yield connection
    await connection.close()


async def lock(connection: asyncpg.Connection, name: str) -> None:
    await connection.execute("select from users where username = $1 for update", name)


async def test_transact_runs_its_work_once_more_after_a_deadlock(
    database: Database, db: asyncpg.Connection, other: asyncpg.Connection
) -> None:
    runs: list[str] = []
    holds_alice, may_go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: asyncpg.Connection) -> str:
        if runs:
            await crossing
        await lock(connection, "alice")
        runs.append("began")
        holds_alice.set()
        await may_go_on.wait()
        await lock(connection, "bob")
        await connection.execute("update users set bio = coalesce(bio, '') || 'x'")
        runs.append("finished")
        return "result"

    async with other.transaction():
        await lock(other, "bob")
        transacting = asyncio.create_task(database.transact(work))
        await holds_alice.wait()
        crossing = asyncio.create_task(lock(other, "alice"))
        await until_blocked(db, 1)
        may_go_on.set()
        await crossing
    assert await transacting == "result"
    assert runs == ["began", "began", "finished"]
    assert [row["bio"] for row in await db.fetch("select bio from users")] == ["x", "x"]


async def test_a_single_statement_runs_once_more_after_a_deadlock(
    database: Database,
    db: asyncpg.Connection,
    other: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "RETRY_DELAY", 0.5)
    await db.execute("select pg_advisory_lock($1)", GATE)
    async with other.transaction():
        await lock(other, "bob")
        locking = asyncio.create_task(LOCK_BOTH(database))
        await until_blocked(db, 1)
        crossing = asyncio.create_task(lock(other, "alice"))
        await until_blocked(db, 2)
        await db.execute("select pg_advisory_unlock($1)", GATE)
        await crossing
    assert await locking == 1


async def change_in_between(
    connection: asyncpg.Connection, db: asyncpg.Connection, runs: list[str]
) -> None:
    """Change what another connection has changed since this transaction began."""
    await connection.execute("set transaction isolation level repeatable read")
    runs.append(await connection.fetchval("select bio from users where username = 'alice'"))
    await db.execute("update users set bio = 'theirs'")
    await connection.execute("update users set bio = 'ours'")


async def test_transact_runs_its_work_once_more_after_a_serialization_failure(
    database: Database, db: asyncpg.Connection
) -> None:
    runs: list[str] = []

    async def work(connection: asyncpg.Connection) -> None:
        if not runs:
            await change_in_between(connection, db, runs)
        runs.append(await connection.fetchval("select bio from users where username = 'alice'"))

    await database.transact(work)
    assert runs == [None, "theirs"]


async def test_transact_does_not_run_its_work_a_third_time(
    database: Database, db: asyncpg.Connection
) -> None:
    runs: list[str] = []
    with pytest.raises(asyncpg.SerializationError):
        await database.transact(lambda connection: change_in_between(connection, db, runs))
    assert runs == [None, "theirs"]
