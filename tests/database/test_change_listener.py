"""Test the listener alone. The tests of the session cache use it with the service."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import asyncpg
import pytest

from service.database.change_listener import ChangeListener
from service.database.pool import Database

CHANNEL = "changes"


@dataclass
class Cache:
    """Record the calls of a listener."""

    changes: list[str] = field(default_factory=list)
    clears: int = 0

    def clear(self) -> None:
        self.clears += 1


@pytest.fixture
def cache() -> Cache:
    return Cache()


@pytest.fixture
async def listener(
    database_url: str, db: asyncpg.Connection, cache: Cache
) -> AsyncIterator[ChangeListener]:
    """Yield a listener that is not started. Stop it after the test."""
    database = Database(database_url, size=1)
    await database.open()
    listener = ChangeListener(
        database, database_url, CHANNEL, 60.0, cache.changes.append, cache.clear
    )
    yield listener
    await listener.stop()
    await database.close()


async def wait_until_trusted(listener: ChangeListener) -> None:
    async with asyncio.timeout(20):
        while not listener.is_trusted():
            await asyncio.sleep(0)


async def notify(db: asyncpg.Connection, payload: str) -> None:
    await db.execute("select pg_notify($1, $2)", CHANNEL, payload)


async def test_listener_is_not_trusted_before_it_listens(listener: ChangeListener) -> None:
    assert not listener.is_trusted()
    await listener.wait_until_applied()  # Returns at once: there is no cache to invalidate.
    listener.start()
    await wait_until_trusted(listener)


async def test_wait_until_applied_returns_after_every_committed_change(
    listener: ChangeListener, cache: Cache, db: asyncpg.Connection
) -> None:
    listener.start()
    await wait_until_trusted(listener)
    for number in range(20):
        await notify(db, f"user:{number}")
        await listener.wait_until_applied()
        assert cache.changes[-1] == f"user:{number}"
    assert len(cache.changes) == 20


async def test_change_is_not_applied_before_its_commit(
    listener: ChangeListener, cache: Cache, db: asyncpg.Connection
) -> None:
    listener.start()
    await wait_until_trusted(listener)
    async with db.transaction():
        await notify(db, "user:1")
        await listener.wait_until_applied()
        assert cache.changes == []
    await listener.wait_until_applied()
    assert cache.changes == ["user:1"]


async def test_concurrent_callers_all_wait_for_their_changes(
    listener: ChangeListener, cache: Cache, db: asyncpg.Connection
) -> None:
    listener.start()
    await wait_until_trusted(listener)
    await notify(db, "user:1")
    await asyncio.gather(*(listener.wait_until_applied() for _ in range(50)))
    assert cache.changes == ["user:1"]


async def test_lost_connection_clears_the_cache_and_is_opened_again(
    listener: ChangeListener,
    cache: Cache,
    db: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="service.database.change_listener")
    listener.start()
    await wait_until_trusted(listener)
    clears = cache.clears
    await db.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1",
        listener.application_name,
    )
    async with asyncio.timeout(20):
        while cache.clears == clears or "cache enabled: listening again" not in caplog.messages:
            await asyncio.sleep(0)
    await notify(db, "user:2")
    await listener.wait_until_applied()
    assert cache.changes == ["user:2"]
    lost, _ = caplog.messages
    assert lost.startswith("cache disabled: lost the LISTEN connection: error=HeartbeatLost: ")


async def test_stop_releases_the_waiting_callers_and_clears_the_cache(
    listener: ChangeListener, cache: Cache
) -> None:
    listener.start()
    await wait_until_trusted(listener)
    clears = cache.clears
    waiting = asyncio.create_task(listener.wait_until_applied())
    await asyncio.sleep(0)
    await listener.stop()
    await waiting
    assert not listener.is_trusted()
    assert cache.clears > clears
