"""No response is larger than about 2 MiB. ``test_comments.py`` tests the lists of comments."""

import io
from typing import Any
from urllib.parse import quote

import asyncpg
import orjson
import pytest

from service.http.responses import MAX_PAGE_BYTES
from tests.conduit.content import (
    DRAGON,
    LONGEST_IN_JSON,
    publish,
    read_all_pages,
    register_longest_author,
    slugs_of,
)
from tests.conftest import Client, MakeClient, Response
from tests.responses import assert_invalid

LONGEST_TAGS = [f"{number:02}" + LONGEST_IN_JSON * 48 for number in range(100)]


async def test_lists_are_paged_by_bytes_when_articles_are_large(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    """Use the longest values of the strict dialect: 100 articles are 4.4 MB of JSON."""
    client = await make_client(realworld_strict=True)
    await register_longest_author(client, "alice")
    await db.execute(
        """
        insert into articles (author_id, slug, title, description, body, tag_list)
        select users.id, lpad(n::text, 120, 'a'), repeat($1, 255), repeat($1, 2000), 'x', $2
        from users cross join generate_series(1, 100) as n
        """,
        LONGEST_IN_JSON,
        LONGEST_TAGS[:50],
    )
    bob = await client.register("bob")
    author = quote("🐘" * 50)
    assert (await client.post(f"/api/profiles/{author}/follow", token=bob)).status == 200
    slugs = [str(number).rjust(120, "a") for number in range(100, 0, -1)]
    for path in (
        "/api/articles?limit=100",
        f"/api/articles?limit=100&author={author}",
        f"/api/articles?limit=100&tag={quote(LONGEST_TAGS[7])}",
        "/api/articles/feed?limit=100",
    ):
        pages = await read_all_pages(client, path, "articles", token=bob)
        assert [slug for page in pages for slug in slugs_of(page)] == slugs
        assert [len(slugs_of(page)) for page in pages] == [47, 47, 6, 0]
        assert {page.body["articlesCount"] for page in pages} == {100}
    assert len(slugs_of(await client.get("/api/articles?limit=20"))) == 20


async def test_longest_tags_make_a_small_response(client: Client, alice: str) -> None:
    for half in (LONGEST_TAGS[:50], LONGEST_TAGS[50:]):
        await publish(client, alice, tagList=half)
    response = await client.get("/api/tags")
    assert len(response.body["tags"]) == 100
    assert int(response.headers["Content-Length"]) < 100 * 300


@pytest.mark.parametrize(
    ("longest", "message"),
    [
        ("a" * 1_048_576, "is too long (maximum is 1048576 characters)"),
        ("é" * 524_288, "is too long (maximum is 1048576 bytes of JSON)"),
        (LONGEST_IN_JSON * 174_762 + "aaaa", "is too long (maximum is 1048576 bytes of JSON)"),
    ],
    ids=["ASCII", "two bytes a character", "six bytes a character"],
)
async def test_body_has_a_limit_of_its_own(
    make_client: MakeClient, longest: str, message: str
) -> None:
    client = await make_client(realworld_strict=True, max_body_size=16 * 1024 * 1024)
    token = await register_longest_author(client, "alice")

    async def send(method: str, path: str, article: dict[str, Any]) -> Response:
        raw = io.BytesIO(orjson.dumps({"article": article}))
        return await client.send(method, path, token=token, data=raw)

    fields = {
        "title": LONGEST_IN_JSON * 255,
        "description": LONGEST_IN_JSON * 2000,
        "tagList": LONGEST_TAGS[:50],
    }
    created = await send("POST", "/api/articles", {**fields, "body": longest})
    assert created.status == 201, created.body
    path = f"/api/articles/{created.body['article']['slug']}"
    response = await client.get(path)
    assert (response.status, response.body["article"]["body"]) == (200, longest)
    assert int(response.headers["Content-Length"]) < MAX_PAGE_BYTES
    for method, where in (("POST", "/api/articles"), ("PUT", path)):
        response = await send(method, where, {**DRAGON, "body": longest + "a"})
        assert_invalid(response, 422, body=message)
