import random

import asyncpg
import pytest

from tests.conduit.content import (
    close_account,
    expected_article,
    expected_profile,
    favorite,
    follow,
    publish,
    slugs_of,
)
from tests.conftest import Client, Dialect
from tests.responses import assert_error

FEED = "/api/articles/feed"


async def test_feed_is_empty_when_the_user_follows_no_author(dialect_client: Client) -> None:
    token = await dialect_client.register("alice")
    await publish(dialect_client, token)
    await publish(dialect_client, await dialect_client.register("bob"))
    response = await dialect_client.get(FEED, token=token)
    assert (response.status, response.body) == (200, {"articles": [], "articlesCount": 0})


async def test_feed_lists_the_articles_of_followed_authors(
    dialect_client: Client, dialect: Dialect
) -> None:
    alice, bob, carol = [await dialect_client.register(name) for name in ("alice", "bob", "carol")]
    await follow(dialect_client, alice, "bob", "carol")
    one = await publish(dialect_client, bob, "One")
    await publish(dialect_client, alice, "Own")
    two = await publish(dialect_client, carol, "Two", tagList=[])
    await publish(dialect_client, await dialect_client.register("dave"), "Stranger")
    await favorite(dialect_client, alice, "one")
    response = await dialect_client.get(FEED, token=alice)
    bob_shown = expected_profile("bob", dialect.no_bio, following=True)
    carol_shown = expected_profile("carol", dialect.no_bio, following=True)
    liked = {"favorited": True, "favoritesCount": 1}
    assert response.status == 200
    assert response.body == {
        "articles": [
            expected_article(two, carol_shown, "two", title="Two", body=None, tagList=[]),
            expected_article(one, bob_shown, "one", title="One", body=None, **liked),
        ],
        "articlesCount": 2,
    }


async def test_feed_requires_authentication(client: Client) -> None:
    response = await client.get(FEED)
    assert_error(response, 401, "token_missing", {"token": ["is missing"]})
    response = await client.get(FEED, token="stale")
    assert_error(response, 401, "token_invalid", {"token": ["is invalid"]})


async def test_feed_shows_every_change(client: Client, alice: str, bob: str) -> None:
    async def feed() -> tuple[list[str], int]:
        response = await client.get(FEED, token=alice)
        return slugs_of(response), response.body["articlesCount"]

    await publish(client, bob, "One")
    await follow(client, alice, "bob")
    assert await feed() == (["one"], 1)
    await publish(client, bob, "Two")
    assert await feed() == (["two", "one"], 2)
    await client.put("/api/articles/one", {"article": {"title": "Uno"}}, token=bob)
    assert await feed() == (["two", "uno"], 2)
    await client.delete("/api/articles/two", token=bob)
    assert await feed() == (["uno"], 1)
    await client.delete("/api/profiles/bob/follow", token=alice)
    assert await feed() == ([], 0)
    await follow(client, alice, "bob")
    assert await feed() == (["uno"], 1)
    await close_account(client, bob, "bob")
    assert await feed() == ([], 0)


AUTHORS_AND_ARTICLES = """
    with author as (
        insert into users (username, username_key, email, email_key, password_hash)
        select name, name, name, name, '' from unnest($1::text[]) as name
        returning id, username
    ),
    followed as (
        insert into follows (follower_id, followed_id)
        select users.id, author.id from users cross join author where users.username = 'alice'
    ),
    article as (
        insert into articles (author_id, slug, title, description, body, created_at)
        select author.id, slug, slug, 'd', 'b', now() - age * interval '1 second'
        from unnest($2::text[], $3::text[], $4::int[]) as given (name, slug, age)
        join author on author.username = given.name
        returning id, slug
    )
    insert into article_slugs (slug, article_id) select slug, id from article
"""


@pytest.mark.parametrize("seed", range(6))
async def test_each_page_of_the_feed_equals_the_page_of_a_plain_query(
    client: Client, alice: str, db: asyncpg.Connection, seed: int
) -> None:
    """Mix busy and idle authors, and articles with equal times."""
    chance = random.Random(seed)
    people = [f"author{n}" for n in range(chance.choice([1, 3, 12]))]
    weights = [chance.choice([1, 5, 100]) for _ in people]
    total = 150
    names = chance.choices(people, weights, k=total)
    ages = [chance.randrange(chance.choice([2, 40, 10_000])) for _ in range(total)]
    slugs = [f"slug-{n}" for n in range(total)]
    await db.execute(AUTHORS_AND_ARTICLES, people, names, slugs, ages)
    rows = await db.fetch("select slug from articles order by created_at desc, id desc")
    expected = [row["slug"] for row in rows]
    assert len(expected) == total
    pages = [(100, 0), (100, 100), (1, 149), (20, 140), (20, 150), (1, 2**63 - 1)]
    pages += [(chance.randint(1, 100), chance.randrange(160)) for _ in range(20)]
    for limit, offset in pages:
        response = await client.get(f"{FEED}?limit={limit}&offset={offset}", token=alice)
        assert slugs_of(response) == expected[offset : offset + limit], (limit, offset)
        assert response.body["articlesCount"] == total


async def test_feed_has_20_articles_by_default(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    slugs = [f"slug-{n}" for n in range(25)]
    await db.execute(AUTHORS_AND_ARTICLES, ["bob"], ["bob"] * 25, slugs, list(range(25)))
    assert slugs_of(await client.get(FEED, token=alice)) == slugs[:20]
    response = await client.get(f"{FEED}?limit=&offset=", token=alice)
    assert slugs_of(response) == slugs[:20]
