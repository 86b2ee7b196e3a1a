from datetime import datetime
from typing import Any

import asyncpg
import pytest

import sql
from tests.conduit.content import (
    DRAGON,
    JSON,
    TIME,
    close_account,
    comment_on,
    expected_article,
    expected_profile,
    favorite,
    follow,
    publish,
    wait_until_removed,
)
from tests.conduit.counts import find_wrong_counts
from tests.conftest import Client, Dialect
from tests.responses import assert_error, assert_invalid

SLUG = "how-to-train-your-dragon"
PATH = f"/api/articles/{SLUG}"
NOT_FOUND = {"article": ["not found"]}


async def content_rows(db: asyncpg.Connection) -> list[tuple[Any, ...]]:
    """Return every row of the content, to compare it before and after a request."""
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


async def test_create_article_responds_with_the_article(
    dialect_client: Client, dialect: Dialect
) -> None:
    token = await dialect_client.register("alice")
    response = await dialect_client.post("/api/articles", {"article": DRAGON}, token=token)
    assert response.status == 201
    article = response.body["article"]
    author = expected_profile("alice", dialect.no_bio)
    assert response.body == {"article": expected_article(article, author, SLUG)}
    assert article["createdAt"] == article["updatedAt"]


async def test_get_article_responds_with_the_created_article(dialect_client: Client) -> None:
    token = await dialect_client.register("alice")
    published = await publish(dialect_client, token)
    for reader in (token, await dialect_client.register("bob"), None):
        response = await dialect_client.get(PATH, token=reader)
        assert (response.status, response.body) == (200, {"article": published})


async def test_article_is_created_without_tags_when_none_are_given(
    client: Client, alice: str
) -> None:
    fields = {name: DRAGON[name] for name in ("title", "description", "body")}
    response = await client.post("/api/articles", {"article": fields}, token=alice)
    expected = expected_article(
        response.body["article"], expected_profile("alice"), SLUG, tagList=[]
    )
    assert (response.status, response.body) == (201, {"article": expected})


async def test_author_of_an_article_has_bio_image_and_following(
    client: Client, alice: str, bob: str
) -> None:
    image = "https://example.test/alice.png"
    await client.put("/api/user", {"user": {"bio": "I bake", "image": image}}, token=alice)
    article = await publish(client, alice)
    assert article["author"] == expected_profile("alice", "I bake", image=image)
    await follow(client, bob, "alice")
    shown = (await client.get(PATH, token=bob)).body["article"]
    assert shown["author"] == expected_profile("alice", "I bake", image=image, following=True)
    assert (await client.get(PATH)).body == {"article": article}


async def test_text_of_an_article_is_stored_unchanged(client: Client, alice: str) -> None:
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
async def test_update_changes_only_the_given_field(
    dialect_client: Client, dialect: Dialect, field: str
) -> None:
    token = await dialect_client.register("alice")
    before = await publish(dialect_client, token)
    response = await dialect_client.put(PATH, {"article": {field: CHANGES[field]}}, token=token)
    changed = response.body["article"]
    slug = "did-you-train-your-dragon" if field == "title" else SLUG
    expected = {
        **before,
        field: CHANGES[field],
        "slug": slug,
        "updatedAt": changed["updatedAt"],
        "author": expected_profile("alice", dialect.no_bio),
    }
    assert (response.status, response.body) == (200, {"article": expected})
    assert TIME.fullmatch(changed["updatedAt"])
    assert changed["updatedAt"] > before["updatedAt"]
    assert (await dialect_client.get(f"/api/articles/{slug}")).body == response.body


async def test_update_changes_all_given_fields(client: Client, alice: str) -> None:
    before = await publish(client, alice)
    response = await client.put(PATH, {"article": {**CHANGES, "slug": "mine", "x": 1}}, token=alice)
    expected = {
        **before,
        **CHANGES,
        "slug": "did-you-train-your-dragon",
        "updatedAt": response.body["article"]["updatedAt"],
    }
    assert (response.status, response.body) == (200, {"article": expected})


@pytest.mark.parametrize(
    ("given", "kept"),
    [({}, DRAGON["tagList"]), ({"tagList": []}, []), ({"tagList": ["b", "a"]}, ["b", "a"])],
    ids=["left out", "emptied", "replaced"],
)
async def test_update_keeps_the_tags_when_they_are_not_given(
    client: Client, alice: str, given: dict[str, Any], kept: list[str]
) -> None:
    await publish(client, alice)
    response = await client.put(PATH, {"article": {"body": "new", **given}}, token=alice)
    assert (response.status, response.body["article"]["tagList"]) == (200, kept)
    assert (await client.get(PATH)).body["article"]["tagList"] == kept


async def test_update_rejects_null_tags(dialect_client: Client, dialect: Dialect) -> None:
    token = await dialect_client.register("alice")
    before = await publish(dialect_client, token)
    response = await dialect_client.put(PATH, {"article": {"tagList": None}}, token=token)
    assert_invalid(response, dialect.invalid, tagList="can't be blank")
    assert (await dialect_client.get(PATH)).body == {"article": before}


async def test_updated_at_increases_with_every_update(client: Client, alice: str) -> None:
    first = await publish(client, alice)
    times = [first["updatedAt"]]
    for _ in range(10):
        response = await client.put(PATH, {"article": {"body": "same"}}, token=alice)
        assert response.body["article"]["createdAt"] == first["createdAt"]
        times.append(response.body["article"]["updatedAt"])
    assert times == sorted(set(times))


async def test_updated_at_increases_when_two_updates_have_the_same_time(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice)
    article_id = await db.fetchval("select id from articles")
    nothing = dict.fromkeys(("title", "description", "body", "tag_list", "slug"))
    times: list[datetime] = []
    async with db.transaction():  # now() is the same for all of them.
        for _ in range(3):
            await sql.articles.update(db, article_id=article_id, **nothing)
            times.append(await db.fetchval("select date_trunc('ms', updated_at) from articles"))
    assert times == sorted(set(times))


async def test_updated_at_stays_when_favorites_and_comments_are_added(
    client: Client, alice: str, bob: str
) -> None:
    before = await publish(client, alice)
    await favorite(client, bob, SLUG)
    await comment_on(client, bob, SLUG)
    assert (await client.get(PATH)).body == {"article": {**before, "favoritesCount": 1}}


async def test_update_keeps_favorites_and_comments(client: Client, alice: str, bob: str) -> None:
    await publish(client, alice)
    comment = await comment_on(client, bob, SLUG)
    await favorite(client, alice, SLUG)
    await favorite(client, bob, SLUG)
    response = await client.put(PATH, {"article": {"title": "Other"}}, token=alice)
    article = response.body["article"]
    assert (article["favorited"], article["favoritesCount"]) == (True, 2)
    assert (await client.get("/api/articles/other/comments")).body == {"comments": [comment]}


async def test_delete_article_removes_its_comments_favorites_and_slugs(
    dialect_client: Client, db: asyncpg.Connection
) -> None:
    token = await dialect_client.register("alice")
    await publish(dialect_client, token)
    await comment_on(dialect_client, token, SLUG)
    await favorite(dialect_client, token, SLUG)
    response = await dialect_client.delete(PATH, token=token)
    assert (response.status, response.body) == (204, None)
    assert await content_rows(db) == []
    for method, path in [("GET", PATH), ("DELETE", PATH), ("GET", f"{PATH}/comments")]:
        response = await dialect_client.send(method, path, token=token)
        assert_error(response, 404, "not_found", NOT_FOUND)
    assert (await dialect_client.get("/api/articles")).body == {"articles": [], "articlesCount": 0}
    # The title and the slug are free again.
    assert (await publish(dialect_client, token))["slug"] == SLUG


async def test_article_of_another_user_cannot_be_changed(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice)
    await comment_on(client, alice, SLUG)
    await favorite(client, bob, SLUG)
    before = await content_rows(db)
    for method, body in [("PUT", {"article": CHANGES}), ("DELETE", None)]:
        response = await client.send(method, PATH, body, token=bob)
        assert_error(response, 403, "forbidden", {"article": ["forbidden"]})
    assert await content_rows(db) == before


async def test_unknown_article_is_not_found(client: Client, alice: str) -> None:
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
        response = await client.send(method, path, body, token=alice)
        assert_error(response, 404, "not_found", NOT_FOUND)


@pytest.mark.parametrize("slug", [SLUG, "unknown"])
async def test_routes_respond_with_401_before_they_look_up_the_article(
    client: Client, alice: str, db: asyncpg.Connection, slug: str
) -> None:
    await publish(client, alice)
    comment = await comment_on(client, alice, SLUG)
    before = await content_rows(db)
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
        bodies: list[Any] = [None, {"article": {}}]
        for body in bodies:
            response = await client.send(method, path, body)
            assert_error(response, 401, "token_missing", {"token": ["is missing"]})
            response = await client.send(method, path, body, token="stale")
            assert_error(response, 401, "token_invalid", {"token": ["is invalid"]})
    assert await content_rows(db) == before


async def test_empty_json_body_is_ignored_when_the_route_has_no_body(
    client: Client, alice: str
) -> None:
    await publish(client, alice)
    for method, path, status in [
        ("GET", PATH, 200),
        ("GET", "/api/articles", 200),
        ("GET", "/api/articles/feed", 200),
        ("POST", f"{PATH}/favorite", 200),
        ("DELETE", f"{PATH}/favorite", 200),
        ("DELETE", PATH, 204),
    ]:
        response = await client.send(method, path, token=alice, headers=JSON, data=b"")
        assert response.status == status


async def test_articles_are_removed_when_their_author_closes_the_account(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice)
    kept = await publish(client, bob, "Kept", tagList=[])
    for slug in (SLUG, "kept"):
        await comment_on(client, alice, slug)
        await favorite(client, alice, slug)
        await comment_on(client, bob, slug)
        await favorite(client, bob, slug)
    await close_account(client, alice, "alice")
    await wait_until_removed(client)
    assert_error(await client.get(PATH), 404, "not_found", NOT_FOUND)
    assert (await client.get("/api/articles/kept")).body == {
        "article": {**kept, "favoritesCount": 1}
    }
    assert [row[0] for row in await content_rows(db)] == [
        "articles",
        "comments",
        "favorites",
        "slugs",
    ]
    assert await find_wrong_counts(db) == []
