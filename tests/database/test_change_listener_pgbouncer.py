"""Test the listener beside a PgBouncer in transaction mode, and through it by mistake."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from service.database.change_listener import ChangeListener
from service.database.pool import Database
from tests.pgbouncer import PgBouncer, needs_pgbouncer

pytestmark = needs_pgbouncer

CHANNEL = "changes"
STALENESS = 1.0  # Seconds.


@pytest.fixture(scope="module")
def pgbouncer(server_url: str) -> Iterator[PgBouncer]:
    with PgBouncer(server_url) as pgbouncer:
        yield pgbouncer


async def test_changes_of_the_pooler_arrive_past_it(
    pgbouncer: PgBouncer, database_url: str, db: asyncpg.Connection
) -> None:
    changes: list[str] = []
    database = Database(pgbouncer.url(database_url), size=1, pooled=True, prepared_statements=False)
    await database.open()
    listener = ChangeListener(database, database_url, CHANNEL, 60.0, changes.append, lambda: None)
    listener.start()
    async with asyncio.timeout(20):
        while not listener.is_trusted():
            await asyncio.sleep(0)
    for number in range(20):
        await db.execute("select pg_notify($1, $2)", CHANNEL, f"user:{number}")
        await listener.wait_until_applied()
        assert changes[-1] == f"user:{number}"
    await listener.stop()
    await database.close()


async def test_listener_through_the_pooler_is_never_trusted(
    pgbouncer: PgBouncer, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = pgbouncer.url(database_url)
    database = Database(url, size=1, pooled=True, prepared_statements=False)
    await database.open()
    # The heartbeats, the changes and LISTEN may share a connection to PostgreSQL.
    listener = ChangeListener(database, url, CHANNEL, STALENESS, lambda _: None, lambda: None)
    listener.start()
    async with asyncio.timeout(20):
        while "cache disabled: lost the LISTEN connection" not in caplog.text:
            assert not listener.is_trusted()
            await asyncio.sleep(0)
    await listener.stop()
    await database.close()
