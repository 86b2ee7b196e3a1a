"""Test the pool behind a PgBouncer in transaction mode, with more clients than connections."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

import sql
from service.database.pool import Database
from tests.pgbouncer import PgBouncer, needs_pgbouncer, supports_prepared_statements

pytestmark = needs_pgbouncer

KINDS = [False, True] if supports_prepared_statements() else [False]


@pytest.fixture(scope="module")
def pgbouncer(server_url: str) -> Iterator[PgBouncer]:
    """Yield a PgBouncer with two connections to PostgreSQL."""
    with PgBouncer(server_url, pool_size=2) as pgbouncer:
        yield pgbouncer


@pytest.fixture(params=KINDS, ids=lambda prepared: "prepared" if prepared else "parsed")
async def database(
    pgbouncer: PgBouncer, database_url: str, db: asyncpg.Connection, request: pytest.FixtureRequest
) -> AsyncIterator[Database]:
    opened = Database(
        pgbouncer.url(database_url), 8, pooled=True, prepared_statements=request.param
    )
    await opened.open()
    yield opened
    await opened.close()


async def test_statements_are_found_on_every_connection(
    database: Database, db: asyncpg.Connection
) -> None:
    async def register(number: int) -> None:
        name = f"user{number}"

        async def work(connection: asyncpg.Connection) -> None:
            await sql.users.insert(
                connection,
                username=name,
                username_key=name,
                email=name,
                email_key=name,
                password_hash="x",
            )
            assert await sql.users.find_id(connection, email_key=name) is not None

        await database.transact(work)
        assert await sql.users.find_id(database, email_key=name) is not None

    await asyncio.gather(*(register(number) for number in range(40)))
    assert await db.fetchval("select count(*) from users") == 40


async def test_pool_leaves_no_settings_for_other_clients(
    database: Database, pgbouncer: PgBouncer, database_url: str
) -> None:
    assert await database.ping()
    other = await asyncpg.connect(pgbouncer.url(database_url), statement_cache_size=0)
    assert await other.fetchval("show plan_cache_mode") == "auto"
    await other.close()
