from datetime import datetime
from typing import Any

import asyncpg
import pytest

import sql
from tests.answers import assert_error, assert_invalid
from tests.conduit.counts import find_wrong_counts
from tests.conduit.writing import (
    DRAGON,
    JSON,
    TIME,
    article_like,
    close_account,
    follow,
    like,
    profile,
    publish,
    say,
    until_removed,
)
from tests.conftest import Client, Dialect

SLUG = "how-to-train-your-dragon"
PATH = f"/api/articles/{SLUG}"
NOT_FOUND = {"article": ["not found"]}


async def everything(db: asyncpg.Connection) -> list[tuple[Any, ...]]:
    """Every row of what people wrote, to compare before with after."""
    rows = await db.fetch(
        """
        select 'articles' as name, to_jsonb(articles) - 'tag_list' as row, tag_list from articles
        union all select 'comments', to_jsonb(comments), null from comments
        union all select 'slugs', to_jsonb(article_slugs), null from article_slugs
        union all select 'tags', to_jsonb(article_tags), null from article_tags
        union all select 'favorites', to_jsonb(favorites), null from favorites
        order by 1, 2
        """
    )
    return [tuple(row) for row in rows]


async def test_publishing_answers_the_article(dialect_client: Client, dialect: Dialect) -> None:
    token = await dialect_client.register("alice")
    answer = await dialect_client.post("/api/articles", {"article": DRAGON}, token=token)
    assert answer.status == 201
    article = answer.body["article"]
    author = profile("alice", dialect.no_bio)
    assert answer.body == {"article": article_like(article, author, SLUG)}
    assert article["createdAt"] == article["updatedAt"]


async def test_an_article_is_shown_as_it_was_published(dialect_client: Client) -> None:
    token = await dialect_client.register("alice")
    published = await publish(dialect_client, token)
    for reader in (token, await dialect_client.register("bob"), None):
        answer = await dialect_client.get(PATH, token=reader)
        assert (answer.status, answer.body) == (200, {"article": published})


async def test_an_article_needs_no_tags(client: Client, alice: str) -> None:
    fields = {name: DRAGON[name] for name in ("title", "description", "body")}
    answer = await client.post("/api/articles", {"article": fields}, token=alice)
    expected = article_like(answer.body["article"], profile("alice"), SLUG, tagList=[])
    assert (answer.status, answer.body) == (201, {"article": expected})


async def test_an_author_shows_bio_image_and_whether_followed(
    client: Client, alice: str, bob: str
) -> None:
    image = "https://example.test/alice.png"
    await client.put("/api/user", {"user": {"bio": "I bake", "image": image}}, token=alice)
    article = await publish(client, alice)
    assert article["author"] == profile("alice", "I bake", image=image)
    await follow(client, bob, "alice")
    shown = (await client.get(PATH, token=bob)).body["article"]
    assert shown["author"] == profile("alice", "I bake", image=image, following=True)
    assert (await client.get(PATH)).body == {"article": article}


async def test_text_comes_back_as_it_was_given(client: Client, alice: str) -> None:
    odd = "  <b>Ünïcödé</b> 😀\n\t'; drop table users; -- \\u0000 \u202e"
    article = await publish(client, alice, odd, description=odd, body=odd)
    shown = (await client.get(f"/api/articles/{article['slug']}")).body["article"]
    assert (shown["title"], shown["description"], shown["body"]) == (odd, odd, odd)


CHANGES: dict[str, Any] = {
    "title": "Did you train your dragon?",
    "description": "Or did it train you?",
    "body": "It takes a Jacobian",
    "tagList": ["training", "dragons"],
}


@pytest.mark.parametrize("field", CHANGES)
async def test_each_field_changes_alone(
    dialect_client: Client, dialect: Dialect, field: str
) -> None:
    token = await dialect_client.register("alice")
    before = await publish(dialect_client, token)
    answer = await dialect_client.put(PATH, {"article": {field: CHANGES[field]}}, token=token)
    changed = answer.body["article"]
    slug = "did-you-train-your-dragon" if field == "title" else SLUG
    expected = {
        **before,
        field: CHANGES[field],
        "slug": slug,
        "updatedAt": changed["updatedAt"],
        "author": profile("alice", dialect.no_bio),
    }
    assert (answer.status, answer.body) == (200, {"article": expected})
    assert TIME.fullmatch(changed["updatedAt"])
    assert changed["updatedAt"] > before["updatedAt"]
    assert (await dialect_client.get(f"/api/articles/{slug}")).body == answer.body


async def test_all_fields_change_together(client: Client, alice: str) -> None:
    before = await publish(client, alice)
    answer = await client.put(PATH, {"article": {**CHANGES, "slug": "mine", "x": 1}}, token=alice)
    expected = {
        **before,
        **CHANGES,
        "slug": "did-you-train-your-dragon",
        "updatedAt": answer.body["article"]["updatedAt"],
    }
    assert (answer.status, answer.body) == (200, {"article": expected})


@pytest.mark.parametrize(
    ("given", "kept"),
    [({}, DRAGON["tagList"]), ({"tagList": []}, []), ({"tagList": ["b", "a"]}, ["b", "a"])],
    ids=["left out", "emptied", "replaced"],
)
async def test_tags_stay_unless_given(
    client: Client, alice: str, given: dict[str, Any], kept: list[str]
) -> None:
    await publish(client, alice)
    answer = await client.put(PATH, {"article": {"body": "new", **given}}, token=alice)
    assert (answer.status, answer.body["article"]["tagList"]) == (200, kept)
    assert (await client.get(PATH)).body["article"]["tagList"] == kept


async def test_tags_are_not_null(dialect_client: Client, dialect: Dialect) -> None:
    token = await dialect_client.register("alice")
    before = await publish(dialect_client, token)
    answer = await dialect_client.put(PATH, {"article": {"tagList": None}}, token=token)
    assert_invalid(answer, dialect.invalid, tagList="can't be blank")
    assert (await dialect_client.get(PATH)).body == {"article": before}


async def test_every_update_is_later_than_the_one_before(client: Client, alice: str) -> None:
    first = await publish(client, alice)
    times = [first["updatedAt"]]
    for _ in range(10):
        answer = await client.put(PATH, {"article": {"body": "same"}}, token=alice)
        assert answer.body["article"]["createdAt"] == first["createdAt"]
        times.append(answer.body["article"]["updatedAt"])
    assert times == sorted(set(times))


async def test_updates_of_one_moment_have_different_times(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice)
    article_id = await db.fetchval("select id from articles")
    nothing = dict.fromkeys(("title", "description", "body", "tag_list", "slug"))
    times: list[datetime] = []
    async with db.transaction():  # now() stands still.
        for _ in range(3):
            await sql.articles.update(db, article_id=article_id, **nothing)
            times.append(await db.fetchval("select date_trunc('ms', updated_at) from articles"))
    assert times == sorted(set(times))


async def test_favorites_and_comments_are_no_update(client: Client, alice: str, bob: str) -> None:
    before = await publish(client, alice)
    await like(client, bob, SLUG)
    await say(client, bob, SLUG)
    assert (await client.get(PATH)).body == {"article": {**before, "favoritesCount": 1}}


async def test_an_update_keeps_favorites_and_comments(client: Client, alice: str, bob: str) -> None:
    await publish(client, alice)
    comment = await say(client, bob, SLUG)
    await like(client, alice, SLUG)
    await like(client, bob, SLUG)
    answer = await client.put(PATH, {"article": {"title": "Other"}}, token=alice)
    article = answer.body["article"]
    assert (article["favorited"], article["favoritesCount"]) == (True, 2)
    assert (await client.get("/api/articles/other/comments")).body == {"comments": [comment]}


async def test_a_deleted_article_is_gone(dialect_client: Client, db: asyncpg.Connection) -> None:
    token = await dialect_client.register("alice")
    await publish(dialect_client, token)
    await say(dialect_client, token, SLUG)
    await like(dialect_client, token, SLUG)
    answer = await dialect_client.delete(PATH, token=token)
    assert (answer.status, answer.body) == (204, None)
    assert await everything(db) == []
    for method, path in [("GET", PATH), ("DELETE", PATH), ("GET", f"{PATH}/comments")]:
        answer = await dialect_client.send(method, path, token=token)
        assert_error(answer, 404, "not_found", NOT_FOUND)
    assert (await dialect_client.get("/api/articles")).body == {"articles": [], "articlesCount": 0}
    # Its title and its slug are free again.
    assert (await publish(dialect_client, token))["slug"] == SLUG


async def test_another_s_article_cannot_be_changed(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice)
    await say(client, alice, SLUG)
    await like(client, bob, SLUG)
    before = await everything(db)
    for method, body in [("PUT", {"article": CHANGES}), ("DELETE", None)]:
        answer = await client.send(method, PATH, body, token=bob)
        assert_error(answer, 403, "forbidden", {"article": ["forbidden"]})
    assert await everything(db) == before


async def test_an_unknown_article_is_not_found(client: Client, alice: str) -> None:
    for method, path, body in [
        ("GET", "/api/articles/unknown", None),
        ("PUT", "/api/articles/unknown", {"article": CHANGES}),
        ("DELETE", "/api/articles/unknown", None),
        ("POST", "/api/articles/unknown/favorite", None),
        ("DELETE", "/api/articles/unknown/favorite", None),
        ("GET", "/api/articles/unknown/comments", None),
        ("POST", "/api/articles/unknown/comments", {"comment": {"body": "x"}}),
        ("DELETE", "/api/articles/unknown/comments/1", None),
    ]:
        answer = await client.send(method, path, body, token=alice)
        assert_error(answer, 404, "not_found", NOT_FOUND)


@pytest.mark.parametrize("slug", [SLUG, "unknown"])
async def test_nobody_is_told_anything_before_signing_in(
    client: Client, alice: str, db: asyncpg.Connection, slug: str
) -> None:
    await publish(client, alice)
    comment = await say(client, alice, SLUG)
    before = await everything(db)
    for method, path in [
        ("POST", "/api/articles"),
        ("GET", "/api/articles/feed"),
        ("PUT", f"/api/articles/{slug}"),
        ("DELETE", f"/api/articles/{slug}"),
        ("POST", f"/api/articles/{slug}/favorite"),
        ("DELETE", f"/api/articles/{slug}/favorite"),
        ("POST", f"/api/articles/{slug}/comments"),
        ("DELETE", f"/api/articles/{slug}/comments/{comment['id']}"),
    ]:
        for body in (None, {"article": {}}):
            answer = await client.send(method, path, body)
            assert_error(answer, 401, "token_missing", {"token": ["is missing"]})
            answer = await client.send(method, path, body, token="stale")
            assert_error(answer, 401, "token_invalid", {"token": ["is invalid"]})
    assert await everything(db) == before


async def test_an_empty_body_called_json_is_no_obstacle(client: Client, alice: str) -> None:
    await publish(client, alice)
    for method, path, status in [
        ("GET", PATH, 200),
        ("GET", "/api/articles", 200),
        ("GET", "/api/articles/feed", 200),
        ("POST", f"{PATH}/favorite", 200),
        ("DELETE", f"{PATH}/favorite", 200),
        ("DELETE", PATH, 204),
    ]:
        answer = await client.send(method, path, token=alice, headers=JSON, data=b"")
        assert answer.status == status


async def test_a_deleted_user_s_articles_are_gone(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice)
    kept = await publish(client, bob, "Kept", tagList=[])
    for slug in (SLUG, "kept"):
        await say(client, alice, slug)
        await like(client, alice, slug)
        await say(client, bob, slug)
        await like(client, bob, slug)
    await close_account(client, alice, "alice")
    await until_removed(client)
    assert_error(await client.get(PATH), 404, "not_found", NOT_FOUND)
    assert (await client.get("/api/articles/kept")).body == {
        "article": {**kept, "favoritesCount": 1}
    }
    assert [row[0] for row in await everything(db)] == [
        "articles",
        "comments",
        "favorites",
        "slugs",
    ]
    assert await find_wrong_counts(db) == []
