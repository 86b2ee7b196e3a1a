"""Concurrent updates of one user, also while a foreign key locks the row."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import pytest

from service.database import pool
from tests.conftest import Client, until_blocked


@pytest.fixture(autouse=True)
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every deadlock a 500: the order of the locks must prevent them, not a retry."""
    monkeypatch.setattr(pool, "CONFLICTS", ())


async def connect(database_url: str, db: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """Yield another connection, which is closed before the rows are deleted."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


favorite = pytest.fixture(connect)
update = pytest.fixture(connect)


async def rename(client: Client, token: str, name: str) -> int:
    return (await client.put("/api/user", {"user": {"username": name}}, token=token)).status


async def until_awaited(db: asyncpg.Connection, transaction: int) -> None:
    """Wait until a connection waits for the end of ``transaction``."""
    async with asyncio.timeout(20):
        while not await db.fetchval(
            "select count(*) from pg_locks where transactionid = $1 and not granted", transaction
        ):
            pass


async def test_updates_do_not_deadlock_while_a_foreign_key_locks_the_row(
    client: Client,
    db: asyncpg.Connection,
    alice: str,
    favorite: asyncpg.Connection,
    update: asyncpg.Connection,
) -> None:
    of_favorite, of_update = favorite.transaction(), update.transaction()
    await of_favorite.start()
    await of_update.start()
    await favorite.execute("select from users for key share")
    await update.execute("update users set bio = 'new'")
    first = asyncio.create_task(rename(client, alice, "alice1"))
    await until_blocked(db, 1)
    second = asyncio.create_task(rename(client, alice, "alice2"))
    await until_blocked(db, 2)
    await of_update.commit()
    await until_awaited(db, await favorite.fetchval("select pg_current_xact_id()::xid"))
    await of_favorite.commit()
    assert [await first, await second] == [200, 200]


async def test_concurrent_updates_favorites_and_comments_do_not_deadlock(
    client: Client, alice: str
) -> None:
    article = {"title": "Dragons", "description": "d", "body": "b"}
    assert (await client.post("/api/articles", {"article": article}, token=alice)).status == 201
    path = "/api/articles/dragons"

    put = partial(client.put, "/api/user", token=alice)
    comment = partial(client.post, f"{path}/comments", {"comment": {"body": "Hi"}}, token=alice)
    responses = await asyncio.gather(
        *(put({"user": {"username": f"alice{number}"}}) for number in range(40)),
        *(put({"user": {"bio": f"{number}"}}) for number in range(40)),
        *(client.post(f"{path}/favorite", token=alice) for _ in range(40)),
        *(client.delete(f"{path}/favorite", token=alice) for _ in range(40)),
        *(comment() for _ in range(40)),
    )
    assert Counter(response.status for response in responses) == {200: 160, 201: 40}
