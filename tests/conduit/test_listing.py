from itertools import product
from typing import Any

import asyncpg
import pytest

from tests.conduit.content import (
    expected_article,
    expected_profile,
    favorite,
    follow,
    publish,
    slugs_of,
)
from tests.conftest import Client, Dialect

EMPTY = {"articles": [], "articlesCount": 0}

# The title (which is the slug), the author, the tags, and the users who favorited it.
BLOG = [
    ("one", "alice", ["a"], ["alice"]),
    ("two", "alice", ["a", "b"], ["bob"]),
    ("three", "alice", [], ["alice", "bob"]),
    ("four", "bob", ["b", "a"], ["alice"]),
    ("five", "bob", ["b"], []),
    ("six", "alice", ["b"], ["bob", "alice"]),
    ("seven", "bob", ["A"], ["bob"]),
]


async def create_blog(client: Client) -> dict[str, str]:
    """Create the articles and favorites of ``BLOG``, and return the tokens by username."""
    tokens = {name: await client.register(name) for name in ("alice", "bob", "carol")}
    for title, author, tags, fans in BLOG:
        await publish(client, tokens[author], title, tagList=tags)
        for fan in fans:
            await favorite(client, tokens[fan], title)
    return tokens


async def test_list_is_empty_without_articles(dialect_client: Client) -> None:
    response = await dialect_client.get("/api/articles")
    assert (response.status, response.body) == (200, EMPTY)


async def test_articles_are_listed_newest_first_without_bodies(
    dialect_client: Client, dialect: Dialect
) -> None:
    alice, bob = await dialect_client.register("alice"), await dialect_client.register("bob")
    one = await publish(dialect_client, alice, "One")
    two = await publish(dialect_client, bob, "Two", tagList=["b", "a"])
    await follow(dialect_client, alice, "bob")
    await favorite(dialect_client, alice, "two")
    author = expected_profile("bob", dialect.no_bio, following=True)
    changes: dict[str, Any] = {"title": "Two", "tagList": ["b", "a"]}
    changes |= {"favorited": True, "favoritesCount": 1, "body": None}
    response = await dialect_client.get("/api/articles", token=alice)
    assert response.status == 200
    assert response.body == {
        "articles": [
            expected_article(two, author, "two", **changes),
            expected_article(
                one, expected_profile("alice", dialect.no_bio), "one", title="One", body=None
            ),
        ],
        "articlesCount": 2,
    }


async def test_each_combination_of_filters_lists_exactly_the_matches(client: Client) -> None:
    await create_blog(client)
    tags = [None, "a", "b", "A", "unknown"]
    names = [None, "alice", "BOB", "carol", "unknown"]
    for tag, author, favorited in product(tags, names, names):
        given = {"tag": tag, "author": author, "favorited": favorited}
        params = {name: value for name, value in given.items() if value is not None}
        expected = [
            title
            for title, writer, its_tags, fans in reversed(BLOG)
            if (tag is None or tag in its_tags)
            and (author is None or author.lower() == writer)
            and (favorited is None or favorited.lower() in fans)
        ]
        response = await client.get("/api/articles", params=params)
        assert (slugs_of(response), response.body["articlesCount"]) == (expected, len(expected)), (
            params
        )
        assert all("body" not in article for article in response.body["articles"])


async def test_empty_parameter_counts_as_not_given(client: Client) -> None:
    await create_blog(client)
    response = await client.get("/api/articles?tag=&author=&favorited=&limit=&offset=&other=1")
    assert slugs_of(response) == [title for title, *_ in reversed(BLOG)]


async def test_order_is_by_creation_and_not_by_update(client: Client) -> None:
    tokens = await create_blog(client)
    await client.put("/api/articles/one", {"article": {"body": "new"}}, token=tokens["alice"])
    response = await client.get("/api/articles")
    assert slugs_of(response) == [title for title, *_ in reversed(BLOG)]


async def test_author_is_found_by_the_new_username_after_a_change(client: Client) -> None:
    tokens = await create_blog(client)
    await client.put("/api/user", {"user": {"username": "Zoë"}}, token=tokens["bob"])
    response = await client.get("/api/articles", params={"author": "ZOE\u0308"})
    assert slugs_of(response) == ["seven", "five", "four"]
    assert (await client.get("/api/articles?author=bob")).body == EMPTY


MANY = 150
MANY_ARTICLES = """
    with article as (
        insert into articles (author_id, slug, title, description, body, tag_list)
        select users.id, 'same-' || n, 'Same', 'd', 'b', array['t']
        from users cross join generate_series(1, $1::int) as n
        where users.username = 'bob'
        returning id, slug
    )
    insert into article_slugs (slug, article_id) select slug, id from article
"""
FILTERS = {
    "tag": "t",
    "author": "bob",
    "favorited": "bob",
}
COMBINATIONS = [
    "&".join(f"{name}={FILTERS[name]}" for name, on in zip(FILTERS, chosen, strict=True) if on)
    for chosen in product([False, True], repeat=3)
]


@pytest.fixture
async def many(client: Client, alice: str, bob: str, db: asyncpg.Connection) -> str:
    """Create ``MANY`` articles of Bob with equal times, each favorited by Bob.

    Return the token of Alice, who follows Bob.
    """
    await db.execute(MANY_ARTICLES, MANY)
    await db.execute(
        "insert into favorites (user_id, article_id) select author_id, id from articles"
    )
    await follow(client, alice, "bob")
    return alice


PATHS = [f"/api/articles?{combination}&" for combination in COMBINATIONS]


@pytest.mark.parametrize("path", [*PATHS, "/api/articles/feed?"])
async def test_pages_have_no_gaps_and_no_repeats_when_times_are_equal(
    client: Client, many: str, path: str
) -> None:
    pages = []
    for offset in range(0, MANY + 40, 40):
        response = await client.get(f"{path}limit=40&offset={offset}", token=many)
        assert response.body["articlesCount"] == MANY
        pages.append(slugs_of(response))
    whole = [slug for page in pages for slug in page]
    assert whole == [f"same-{n}" for n in range(MANY, 0, -1)]
    assert [len(page) for page in pages] == [40, 40, 40, 30, 0]


@pytest.mark.parametrize("path", [*PATHS, "/api/articles/feed?"])
async def test_page_is_exact_at_the_limits_of_limit_and_offset(
    client: Client, many: str, path: str
) -> None:
    whole = [f"same-{n}" for n in range(MANY, 0, -1)]
    for page, expected in [
        ("", whole[:20]),
        ("limit=1", whole[:1]),
        ("limit=100", whole[:100]),
        ("limit=007", whole[:7]),
        ("offset=149", whole[149:]),
        ("offset=150", []),
        ("offset=151&limit=1", []),
        (f"offset={2**63 - 1}", []),
        (f"offset={2**63 - 1}&limit=100", []),
        (f"offset={2**63 - 2}&limit=1", []),
    ]:
        response = await client.get(path + page, token=many)
        assert (slugs_of(response), response.body["articlesCount"]) == (expected, MANY), page
