import asyncio

import asyncpg
import pytest

from tests.conduit.content import (
    close_account,
    expected_profile,
    favorite,
    follow,
    publish,
    slugs_of,
    wait_until_removed,
)
from tests.conduit.counts import find_wrong_counts
from tests.conftest import Client, Dialect

FAVORITE = "/api/articles/dragons/favorite"


async def test_favorite_responds_with_the_article(dialect_client: Client, dialect: Dialect) -> None:
    token = await dialect_client.register("alice")
    published = await publish(dialect_client, token, "Dragons")
    for _ in range(2):  # A repeated request has no effect.
        response = await dialect_client.post(FAVORITE, token=token)
        expected = {"article": {**published, "favorited": True, "favoritesCount": 1}}
        assert (response.status, response.body) == (200, expected)
        assert response.body["article"]["author"] == expected_profile("alice", dialect.no_bio)
        assert (await dialect_client.get("/api/articles/dragons", token=token)).body == expected
    for _ in range(2):
        response = await dialect_client.delete(FAVORITE, token=token)
        assert (response.status, response.body) == (200, {"article": published})


async def test_favorited_and_following_belong_to_the_current_user(
    client: Client, alice: str, bob: str
) -> None:
    await publish(client, alice, "Dragons", tagList=["t"])
    await favorite(client, bob, "dragons")
    await follow(client, bob, "alice")
    expected = {"alice": False, "bob": True, "anonymous": False, "stale": False}
    tokens = {"alice": alice, "bob": bob, "anonymous": None, "stale": "stale"}
    for path in [
        "/api/articles/dragons",
        "/api/articles",
        "/api/articles?tag=t",
        "/api/articles?author=alice",
        "/api/articles?favorited=bob",
        "/api/articles?tag=t&author=alice",
        "/api/articles?tag=t&favorited=bob",
        "/api/articles?author=alice&favorited=bob",
        "/api/articles?tag=t&author=alice&favorited=bob",
    ]:
        for name, token in tokens.items():
            body = (await client.get(path, token=token)).body
            article = body["article"] if "article" in body else body["articles"][0]
            seen = (article["favorited"], article["author"]["following"])
            assert seen == (expected[name], expected[name]), (path, name)
            assert article["favoritesCount"] == 1


async def test_favorites_count_falls_with_each_removed_favorite(
    client: Client, alice: str, bob: str
) -> None:
    await publish(client, alice, "Dragons")
    await favorite(client, alice, "dragons")
    await favorite(client, bob, "dragons")
    for token, left in [(alice, 1), (alice, 1), (bob, 0)]:
        response = await client.delete(FAVORITE, token=token)
        article = response.body["article"]
        assert (article["favorited"], article["favoritesCount"]) == (False, left)


async def test_concurrent_favorites_are_all_counted(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "Dragons")
    tokens = await asyncio.gather(*[client.register(f"fan{n}") for n in range(10)])
    await asyncio.gather(*[favorite(client, token, "dragons") for token in tokens * 3])
    article = (await client.get("/api/articles/dragons")).body["article"]
    assert article["favoritesCount"] == 10
    await asyncio.gather(*[client.delete(FAVORITE, token=token) for token in tokens * 3])
    article = (await client.get("/api/articles/dragons")).body["article"]
    assert article["favoritesCount"] == 0
    assert await find_wrong_counts(db) == []


async def test_favorites_are_listed_by_the_time_of_the_articles(
    client: Client, alice: str, bob: str
) -> None:
    for title in ("first", "second", "third"):
        await publish(client, alice, title)
    await favorite(client, bob, "third", "first", "second")
    response = await client.get("/api/articles?favorited=bob")
    assert slugs_of(response) == ["third", "second", "first"]


@pytest.mark.parametrize("leaving", ["alice", "bob"])
async def test_favorites_are_removed_when_a_user_closes_the_account(
    client: Client, alice: str, bob: str, db: asyncpg.Connection, leaving: str
) -> None:
    await publish(client, alice, "Dragons")
    await publish(client, bob, "Bees")
    for token in (alice, bob):
        await favorite(client, token, "dragons", "bees")
    await close_account(client, {"alice": alice, "bob": bob}[leaving], leaving)
    await wait_until_removed(client)
    kept = {"alice": "bees", "bob": "dragons"}[leaving]
    shown = (await client.get(f"/api/articles/{kept}")).body["article"]
    assert shown["favoritesCount"] == 1
    assert (await client.get(f"/api/articles?favorited={leaving}")).body == {
        "articles": [],
        "articlesCount": 0,
    }
    assert await find_wrong_counts(db) == []
