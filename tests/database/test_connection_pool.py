import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.database import connection_pool
from service.database.connection_pool import ConnectionPool


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[ConnectionPool]:
    pool = ConnectionPool(await asyncpg.create_pool(database_url, min_size=0, max_size=2))
    yield pool
    await pool.close()


async def pid_of(pool: ConnectionPool, *, is_clean: bool = True) -> int:
    """Use a connection and return the id of its server process."""
    connection = await pool.acquire()
    pid: int = connection.get_server_pid()
    await pool.release(connection, is_clean=is_clean)
    return pid


async def test_pool_reuses_a_connection(pool: ConnectionPool) -> None:
    assert len({await pid_of(pool), await pid_of(pool), await pid_of(pool, is_clean=False)}) == 1


async def test_pool_opens_another_connection_when_the_free_one_was_closed(
    pool: ConnectionPool, db: asyncpg.Connection
) -> None:
    first = await pid_of(pool)
    await db.execute("select pg_terminate_backend($1)", first)
    async with asyncio.timeout(10):
        while (second := await pid_of(pool)) == first:
            await asyncio.sleep(0)
    assert await pid_of(pool) == second


async def test_pool_releases_free_connections_to_asyncpg(
    pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "KEPT_SECONDS", 0.0)
    pid = await pid_of(pool)
    async with asyncio.timeout(10):
        while pool._pool.get_idle_size() == 0:
            await asyncio.sleep(0)
    assert await pid_of(pool) == pid


async def test_close_waits_for_connections_that_are_in_use(database_url: str) -> None:
    pool = ConnectionPool(await asyncpg.create_pool(database_url, min_size=0, max_size=2))
    await pid_of(pool)
    connection = await pool.acquire()
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    assert not closing.done()
    await pool.release(connection, is_clean=True)
    await asyncio.wait_for(closing, 10)
