"""Test the retry after a deadlock or a serialization failure."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

import sql
from service.database import pool
from service.database.pool import Database
from tests.conftest import until_blocked

GATE = 7_310_007  # The key of an advisory lock that only these tests use.

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
    """Open a pool on a database with two users."""
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
    """Open another connection, which PostgreSQL never chooses as the victim of a deadlock."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("set deadlock_timeout = '1h'")
    yield connection
    await connection.close()


async def lock_user(connection: asyncpg.Connection, name: str) -> None:
    await connection.execute("select from users where username = $1 for update", name)


async def test_transact_runs_work_again_after_a_deadlock(
    database: Database, db: asyncpg.Connection, other: asyncpg.Connection
) -> None:
    runs: list[str] = []
    has_locked_alice, may_continue = asyncio.Event(), asyncio.Event()

    async def work(connection: asyncpg.Connection) -> str:
        if runs:
            await crossing
        await lock_user(connection, "alice")
        runs.append("began")
        has_locked_alice.set()
        await may_continue.wait()
        await lock_user(connection, "bob")
        await connection.execute("update users set bio = coalesce(bio, '') || 'x'")
        runs.append("finished")
        return "result"

    async with other.transaction():
        await lock_user(other, "bob")
        transacting = asyncio.create_task(database.transact(work))
        await has_locked_alice.wait()
        crossing = asyncio.create_task(lock_user(other, "alice"))
        await until_blocked(db, 1)
        may_continue.set()
        await crossing
    assert await transacting == "result"
    assert runs == ["began", "began", "finished"]
    assert [row["bio"] for row in await db.fetch("select bio from users")] == ["x", "x"]


async def test_single_statement_runs_again_after_a_deadlock(
    database: Database,
    db: asyncpg.Connection,
    other: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "RETRY_DELAY", 0.5)
    await db.execute("select pg_advisory_lock($1)", GATE)
    async with other.transaction():
        await lock_user(other, "bob")
        locking = asyncio.create_task(LOCK_BOTH(database))
        await until_blocked(db, 1)
        crossing = asyncio.create_task(lock_user(other, "alice"))
        await until_blocked(db, 2)
        await db.execute("select pg_advisory_unlock($1)", GATE)
        await crossing
    assert await locking == 1


async def update_changed_rows(
    connection: asyncpg.Connection, db: asyncpg.Connection, runs: list[str]
) -> None:
    """Update rows that another connection has updated since this transaction began."""
    await connection.execute("set transaction isolation level repeatable read")
    runs.append(await connection.fetchval("select bio from users where username = 'alice'"))
    await db.execute("update users set bio = 'other'")
    await connection.execute("update users set bio = 'own'")


async def test_transact_runs_work_again_after_a_serialization_failure(
    database: Database, db: asyncpg.Connection
) -> None:
    runs: list[str] = []

    async def work(connection: asyncpg.Connection) -> None:
        if not runs:
            await update_changed_rows(connection, db, runs)
        runs.append(await connection.fetchval("select bio from users where username = 'alice'"))

    await database.transact(work)
    assert runs == [None, "other"]


async def test_transact_does_not_run_work_a_third_time(
    database: Database, db: asyncpg.Connection
) -> None:
    runs: list[str] = []
    with pytest.raises(asyncpg.SerializationError):
        await database.transact(lambda connection: update_changed_rows(connection, db, runs))
    assert runs == [None, "other"]
