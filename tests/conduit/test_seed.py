from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.conduit.seed import ARTICLES, PEOPLE, SeedError, seed
from service.database.pool import Database
from tests.conduit.counts import find_wrong_counts
from tests.conftest import Client


@pytest.fixture
async def database(database_url: str, db: asyncpg.Connection) -> AsyncIterator[Database]:
    database = Database(database_url, size=2)
    await database.open()
    yield database
    await database.close()


async def test_a_seeded_blog_can_be_read_and_signed_in_to(
    client: Client, database: Database, db: asyncpg.Connection
) -> None:
    told: list[str] = []
    password = await seed(database, told.append, cost=4)
    assert told
    listed = await client.get("/api/articles?limit=100")
    assert listed.body["articlesCount"] == len(ARTICLES) == len(listed.body["articles"])
    assert {shown["author"]["username"] for shown in listed.body["articles"]} == set(PEOPLE)
    assert any(shown["favoritesCount"] for shown in listed.body["articles"])
    answer = await client.post(
        "/api/users/login", {"user": {"email": "anna@example.test", "password": password}}
    )
    feed = await client.get("/api/articles/feed", token=answer.body["user"]["token"])
    assert feed.body["articlesCount"] > 0
    assert await find_wrong_counts(db) == []


async def test_a_database_with_users_is_left_alone(
    client: Client, database: Database, alice: str
) -> None:
    with pytest.raises(SeedError, match="not empty"):
        await seed(database, lambda _: None, cost=4)
    assert (await client.get("/api/articles")).body["articlesCount"] == 0
    assert (await client.get("/api/profiles/anna")).status == 404
