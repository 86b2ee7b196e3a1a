import asyncio
import re

import asyncpg
import pytest

from tests.conduit.content import comment_on, favorite, publish
from tests.conduit.counts import find_wrong_counts
from tests.conftest import Client
from tests.responses import assert_error

CONCURRENT = 20


async def rename(client: Client, token: str, slug: str, title: str) -> str:
    """Change the title of the article and return its new slug."""
    path = f"/api/articles/{slug}"
    response = await client.put(path, {"article": {"title": title}}, token=token)
    assert response.status == 200, response
    assert response.body["article"]["title"] == title
    return str(response.body["article"]["slug"])


READABLE = {
    "words": ("How to train your dragon", "how-to-train-your-dragon"),
    "punctuation": ("  What?! -- It's 50% off... ", "what-it-s-50-off"),
    "accents": ("Über Crème Brûlée", "uber-creme-brulee"),
    "Cyrillic": ("Привет, мир", "privet-mir"),
    "a number": ("2048", "2048"),
    "the name of the feed": ("Feed", "feed-article"),
    "symbols": ("!?$%&/()=", "article"),
    "emoji": ("😀🎉", "article"),
    "a combining mark": ("\u0301", "article"),
}


@pytest.mark.parametrize(("title", "slug"), READABLE.values(), ids=READABLE)
async def test_slug_is_readable(client: Client, alice: str, title: str, slug: str) -> None:
    article = await publish(client, alice, title)
    assert article["title"] == title
    assert article["slug"] == slug
    assert (await client.get(f"/api/articles/{article['slug']}")).body == {"article": article}


@pytest.mark.parametrize(
    "title",
    [
        "如何训练你的龙",
        "كيف تدرب تنينك",
        "איך לאלף דרקון",
        "ドラゴンの育て方",
        "แมว",
        "a" * 255,
        "龙" * 255,
        "word " * 51,
        "/../..//",
        "%2e%2e%00",
        "<script>alert(1)</script>",
    ],
    ids=lambda title: title[:10],
)
async def test_slug_is_ascii_for_a_title_in_any_script(
    client: Client, alice: str, title: str
) -> None:
    article = await publish(client, alice, title)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", article["slug"])
    assert len(article["slug"]) <= 100
    assert (await client.get(f"/api/articles/{article['slug']}")).body == {"article": article}


async def test_slugs_differ_when_titles_are_equal(client: Client, alice: str, bob: str) -> None:
    articles = [await publish(client, token, "Dragons") for token in (alice, alice, bob)]
    slugs = [article["slug"] for article in articles]
    assert slugs[0] == "dragons"
    assert len(set(slugs)) == 3
    assert all(re.fullmatch(r"dragons-[0-9]+", slug) for slug in slugs[1:])
    for article in articles:
        shown = await client.get(f"/api/articles/{article['slug']}")
        assert shown.body == {"article": article}


async def test_slug_is_numbered_when_the_title_is_long_and_used_twice(
    client: Client, alice: str
) -> None:
    first, second = [await publish(client, alice, "a" * 255) for _ in range(2)]
    assert second["slug"].startswith(first["slug"] + "-")


async def test_create_succeeds_when_the_numbered_slug_is_taken(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "x")
    numbered = (await publish(client, alice, "x"))["slug"]
    number = int(numbered.removeprefix("x-"))
    # The numbers of the next article and of the numbered slug are titles of other articles.
    ahead = await publish(client, alice, f"x {number + 2}")
    assert ahead["slug"] == f"x-{number + 2}"
    again = await publish(client, alice, "x")
    same = await publish(client, alice, numbered)
    slugs = {"x", numbered, ahead["slug"], again["slug"], same["slug"]}
    assert len(slugs) == 5
    assert all(slug.startswith("x-") for slug in slugs - {"x"})
    assert await find_wrong_counts(db) == []


async def test_update_succeeds_when_the_numbered_slug_is_taken(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "x")
    y = (await publish(client, alice, "y"))["slug"]
    number = await db.fetchval("select id from articles where slug = $1", y)
    await publish(client, alice, f"x {number}")
    slug = await rename(client, alice, "y", "x")
    assert slug not in ("x", f"x-{number}")
    assert slug.startswith("x-")
    assert await find_wrong_counts(db) == []


async def test_old_slug_finds_the_article_after_a_change_of_the_title(
    client: Client, alice: str, bob: str
) -> None:
    await publish(client, alice, "Old")
    assert await rename(client, alice, "old", "New") == "new"
    old, new = [await client.get(f"/api/articles/{slug}") for slug in ("old", "new")]
    assert (old.status, old.body) == (200, new.body)
    assert old.body["article"]["slug"] == "new"
    # Every route accepts the old slug.
    await favorite(client, bob, "old")
    comment = await comment_on(client, bob, "old")
    response = await client.put("/api/articles/old", {"article": {"body": "b"}}, token=alice)
    article = response.body["article"]
    assert (article["slug"], article["body"], article["favoritesCount"]) == ("new", "b", 1)
    for slug in ("old", "new"):
        comments = await client.get(f"/api/articles/{slug}/comments")
        assert comments.body == {"comments": [comment]}
    path = f"/api/articles/old/comments/{comment['id']}"
    assert (await client.delete(path, token=bob)).status == 204
    response = await client.delete("/api/articles/old/favorite", token=bob)
    assert response.body["article"]["favoritesCount"] == 0
    assert (await client.delete("/api/articles/old", token=alice)).status == 204
    for slug in ("old", "new"):
        response = await client.get(f"/api/articles/{slug}")
        assert_error(response, 404, "not_found", {"article": ["not found"]})


async def test_former_slug_is_reused_when_the_title_is_changed_back(
    client: Client, alice: str
) -> None:
    await publish(client, alice, "Old")
    assert await rename(client, alice, "old", "New") == "new"
    assert await rename(client, alice, "new", "Old") == "old"
    assert await rename(client, alice, "old", "New") == "new"
    numbered = (await publish(client, alice, "Old"))["slug"]
    assert numbered != "old"
    assert await rename(client, alice, numbered, "Third") == "third"
    assert await rename(client, alice, "third", "Old") == numbered


async def test_slug_stays_when_the_new_title_has_the_same_slug(client: Client, alice: str) -> None:
    await publish(client, alice, "x")
    numbered = (await publish(client, alice, "x"))["slug"]
    assert await rename(client, alice, "x", "X!") == "x"
    assert await rename(client, alice, numbered, "X?") == numbered


async def test_old_slug_is_not_given_to_another_article(
    client: Client, alice: str, bob: str
) -> None:
    await publish(client, alice, "Old")
    await rename(client, alice, "old", "New")
    other = await publish(client, bob, "Old")
    assert other["slug"] != "old"
    assert (await client.get("/api/articles/old")).body["article"]["title"] == "New"


async def test_concurrent_articles_with_one_title_all_succeed(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    articles = await asyncio.gather(
        *[publish(client, (alice, bob)[n % 2], "Dragons") for n in range(CONCURRENT)]
    )
    slugs = {article["slug"] for article in articles}
    assert len(slugs) == CONCURRENT
    assert "dragons" in slugs
    assert all(re.fullmatch(r"dragons(-[0-9]+)?", slug) for slug in slugs)
    assert await find_wrong_counts(db) == []


async def test_concurrent_updates_to_one_title_all_succeed(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    before = [await publish(client, alice, f"Before {n}") for n in range(CONCURRENT)]
    slugs = await asyncio.gather(
        *[rename(client, alice, article["slug"], "Dragons") for article in before]
    )
    assert len(set(slugs)) == CONCURRENT
    assert "dragons" in slugs
    assert all(re.fullmatch(r"dragons(-[0-9]+)?", slug) for slug in slugs)
    assert await find_wrong_counts(db) == []


async def test_concurrent_updates_of_one_article_to_one_title_have_one_slug(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "Taken")
    for round_ in range(2):
        article = await publish(client, alice, f"Before {round_}")
        number = await db.fetchval("select id from articles where slug = $1", article["slug"])
        for title, slug in [(f"After {round_}", f"after-{round_}"), ("Taken", f"taken-{number}")]:
            slugs = await asyncio.gather(
                *[rename(client, alice, article["slug"], title) for _ in range(CONCURRENT)]
            )
            assert set(slugs) == {slug}
    assert await find_wrong_counts(db) == []


async def test_concurrent_articles_and_updates_have_different_slugs(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    before = [await publish(client, bob, f"Before {n}") for n in range(CONCURRENT)]
    published = [publish(client, alice, "Dragons") for _ in range(CONCURRENT)]
    changed = [rename(client, bob, article["slug"], "Dragons") for article in before]
    responses = await asyncio.gather(*published, *changed)
    slugs = [response if isinstance(response, str) else response["slug"] for response in responses]
    assert len(set(slugs)) == 2 * CONCURRENT
    assert await find_wrong_counts(db) == []
