import asyncio
import re

import asyncpg
import pytest

from tests.answers import assert_error
from tests.conduit.counts import find_wrong_counts
from tests.conduit.writing import like, publish, say
from tests.conftest import Client

SIMULTANEOUS = 20


async def rename(client: Client, token: str, slug: str, title: str) -> str:
    """Change the title of the article and return its slug afterwards."""
    path = f"/api/articles/{slug}"
    answer = await client.put(path, {"article": {"title": title}}, token=token)
    assert answer.status == 200, answer
    assert answer.body["article"]["title"] == title
    return str(answer.body["article"]["slug"])


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
async def test_a_slug_is_readable(client: Client, alice: str, title: str, slug: str) -> None:
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
async def test_a_title_in_any_script_has_a_slug_that_leads_to_it(
    client: Client, alice: str, title: str
) -> None:
    article = await publish(client, alice, title)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", article["slug"])
    assert len(article["slug"]) <= 100
    assert (await client.get(f"/api/articles/{article['slug']}")).body == {"article": article}


async def test_equal_titles_have_different_slugs(client: Client, alice: str, bob: str) -> None:
    articles = [await publish(client, token, "Dragons") for token in (alice, alice, bob)]
    slugs = [article["slug"] for article in articles]
    assert slugs[0] == "dragons"
    assert len(set(slugs)) == 3
    assert all(re.fullmatch(r"dragons-[0-9]+", slug) for slug in slugs[1:])
    for article in articles:
        shown = await client.get(f"/api/articles/{article['slug']}")
        assert shown.body == {"article": article}


async def test_a_long_title_that_is_taken_has_a_slug_too(client: Client, alice: str) -> None:
    first, second = [await publish(client, alice, "a" * 255) for _ in range(2)]
    assert second["slug"].startswith(first["slug"] + "-")


async def test_a_title_that_is_anothers_numbered_slug_succeeds(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "x")
    numbered = (await publish(client, alice, "x"))["slug"]
    number = int(numbered.removeprefix("x-"))
    # The next article's own number is somebody's title, and so is that of the numbered slug.
    ahead = await publish(client, alice, f"x {number + 2}")
    assert ahead["slug"] == f"x-{number + 2}"
    again = await publish(client, alice, "x")
    same = await publish(client, alice, numbered)
    slugs = {"x", numbered, ahead["slug"], again["slug"], same["slug"]}
    assert len(slugs) == 5
    assert all(slug.startswith("x-") for slug in slugs - {"x"})
    assert await find_wrong_counts(db) == []


async def test_a_title_changed_to_anothers_numbered_slug_succeeds(
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


async def test_a_changed_title_changes_the_slug_and_the_old_one_leads_on(
    client: Client, alice: str, bob: str
) -> None:
    await publish(client, alice, "Old")
    assert await rename(client, alice, "old", "New") == "new"
    old, new = [await client.get(f"/api/articles/{slug}") for slug in ("old", "new")]
    assert (old.status, old.body) == (200, new.body)
    assert old.body["article"]["slug"] == "new"
    # Through the old slug everything works.
    await like(client, bob, "old")
    comment = await say(client, bob, "old")
    answer = await client.put("/api/articles/old", {"article": {"body": "b"}}, token=alice)
    article = answer.body["article"]
    assert (article["slug"], article["body"], article["favoritesCount"]) == ("new", "b", 1)
    for slug in ("old", "new"):
        comments = await client.get(f"/api/articles/{slug}/comments")
        assert comments.body == {"comments": [comment]}
    path = f"/api/articles/old/comments/{comment['id']}"
    assert (await client.delete(path, token=bob)).status == 204
    answer = await client.delete("/api/articles/old/favorite", token=bob)
    assert answer.body["article"]["favoritesCount"] == 0
    assert (await client.delete("/api/articles/old", token=alice)).status == 204
    for slug in ("old", "new"):
        answer = await client.get(f"/api/articles/{slug}")
        assert_error(answer, 404, "not_found", {"article": ["not found"]})


async def test_changing_back_takes_the_former_slug(client: Client, alice: str) -> None:
    await publish(client, alice, "Old")
    assert await rename(client, alice, "old", "New") == "new"
    assert await rename(client, alice, "new", "Old") == "old"
    assert await rename(client, alice, "old", "New") == "new"
    numbered = (await publish(client, alice, "Old"))["slug"]
    assert numbered != "old"
    assert await rename(client, alice, numbered, "Third") == "third"
    assert await rename(client, alice, "third", "Old") == numbered


async def test_a_title_of_the_same_slug_keeps_it(client: Client, alice: str) -> None:
    await publish(client, alice, "x")
    numbered = (await publish(client, alice, "x"))["slug"]
    assert await rename(client, alice, "x", "X!") == "x"
    assert await rename(client, alice, numbered, "X?") == numbered


async def test_an_old_slug_is_not_given_to_another(client: Client, alice: str, bob: str) -> None:
    await publish(client, alice, "Old")
    await rename(client, alice, "old", "New")
    other = await publish(client, bob, "Old")
    assert other["slug"] != "old"
    assert (await client.get("/api/articles/old")).body["article"]["title"] == "New"


async def test_simultaneous_articles_of_one_title_all_succeed(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    articles = await asyncio.gather(
        *[publish(client, (alice, bob)[n % 2], "Dragons") for n in range(SIMULTANEOUS)]
    )
    slugs = {article["slug"] for article in articles}
    assert len(slugs) == SIMULTANEOUS
    assert "dragons" in slugs
    assert all(re.fullmatch(r"dragons(-[0-9]+)?", slug) for slug in slugs)
    assert await find_wrong_counts(db) == []


async def test_simultaneous_changes_to_one_title_all_succeed(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    before = [await publish(client, alice, f"Before {n}") for n in range(SIMULTANEOUS)]
    slugs = await asyncio.gather(
        *[rename(client, alice, article["slug"], "Dragons") for article in before]
    )
    assert len(set(slugs)) == SIMULTANEOUS
    assert "dragons" in slugs
    assert all(re.fullmatch(r"dragons(-[0-9]+)?", slug) for slug in slugs)
    assert await find_wrong_counts(db) == []


async def test_simultaneous_changes_of_one_article_to_one_title_agree(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "Taken")
    for round_ in range(2):
        article = await publish(client, alice, f"Before {round_}")
        number = await db.fetchval("select id from articles where slug = $1", article["slug"])
        for title, slug in [(f"After {round_}", f"after-{round_}"), ("Taken", f"taken-{number}")]:
            slugs = await asyncio.gather(
                *[rename(client, alice, article["slug"], title) for _ in range(SIMULTANEOUS)]
            )
            assert set(slugs) == {slug}
    assert await find_wrong_counts(db) == []


async def test_articles_and_changes_at_once_never_share_a_slug(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    before = [await publish(client, bob, f"Before {n}") for n in range(SIMULTANEOUS)]
    published = [publish(client, alice, "Dragons") for _ in range(SIMULTANEOUS)]
    changed = [rename(client, bob, article["slug"], "Dragons") for article in before]
    answers = await asyncio.gather(*published, *changed)
    slugs = [answer if isinstance(answer, str) else answer["slug"] for answer in answers]
    assert len(set(slugs)) == 2 * SIMULTANEOUS
    assert await find_wrong_counts(db) == []
