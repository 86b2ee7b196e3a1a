"""Invalid requests: each is rejected with a 4xx status and changes nothing."""

import io
import json
from typing import Any

import asyncpg
import pytest

from tests.conduit.content import DRAGON, publish
from tests.conftest import Client, Dialect, Response
from tests.responses import assert_error, assert_invalid

BLANK = "can't be blank"
NOT_A_STRING = "must be a string"
NOT_A_LIST = "must be a list of strings"
NOT_ALLOWED = "has a character that is not allowed"
NOT_A_NUMBER = "must be a whole number"
LISTS = {
    "/api/articles": 100,
    "/api/articles/feed": 100,
    "/api/articles/dragons/comments": 1000,
}


@pytest.fixture
async def token(dialect_client: Client) -> str:
    """Create the article "Dragons" as Alice, in the dialect of the test, and return the token."""
    token = await dialect_client.register("alice")
    await publish(dialect_client, token, "Dragons", tagList=[])
    return token


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("limit", "-1", "must be at least 1"),
        ("limit", "0", "must be at least 1"),
        ("limit", "{over}", "must be at most {most}"),
        ("limit", "1000000000", "must be at most {most}"),
        ("limit", "1" + "0" * 30, "must be at most {most}"),
        ("limit", "1e9", NOT_A_NUMBER),
        ("limit", "abc", NOT_A_NUMBER),
        ("limit", "1.0", NOT_A_NUMBER),
        ("limit", "%2B1", NOT_A_NUMBER),
        ("limit", "%201", NOT_A_NUMBER),
        ("limit", "1_0", NOT_A_NUMBER),
        ("limit", "%D9%A3", NOT_A_NUMBER),
        ("limit", "%00", NOT_A_NUMBER),
        ("limit", "%FF", NOT_A_NUMBER),
        ("limit", "9" * 5000, NOT_A_NUMBER),
        ("offset", "-1", "must be at least 0"),
        ("offset", str(2**63), f"must be at most {2**63 - 1}"),
        ("offset", "1" + "0" * 30, f"must be at most {2**63 - 1}"),
        ("offset", "abc", NOT_A_NUMBER),
        ("offset", "0x10", NOT_A_NUMBER),
        ("offset", "1%00", NOT_A_NUMBER),
    ],
    ids=lambda value: value[:20],
)
async def test_list_rejects_an_invalid_limit_or_offset(
    dialect_client: Client, dialect: Dialect, token: str, name: str, value: str, message: str
) -> None:
    for path, most in LISTS.items():
        given = value.format(over=most + 1)
        response = await dialect_client.get(f"{path}?{name}={given}", token=token)
        assert_invalid(response, dialect.invalid, **{name: message.format(most=most)})


async def test_list_names_every_invalid_parameter(
    dialect_client: Client, dialect: Dialect, token: str
) -> None:
    response = await dialect_client.get(
        "/api/articles?limit=x&offset=-1&tag=%00&author=%00&favorited=a%00"
    )
    assert_invalid(
        response,
        dialect.invalid,
        author=NOT_ALLOWED,
        favorited=NOT_ALLOWED,
        limit=NOT_A_NUMBER,
        offset="must be at least 0",
        tag=NOT_ALLOWED,
    )


@pytest.mark.parametrize("name", ["tag", "author", "favorited", "limit", "offset"])
@pytest.mark.parametrize("values", [("1", "1"), ("1", "2"), ("", "1")], ids=str)
async def test_list_rejects_a_repeated_parameter(
    dialect_client: Client, dialect: Dialect, token: str, name: str, values: tuple[str, str]
) -> None:
    first, second = values
    response = await dialect_client.get(f"/api/articles?{name}={first}&{name}={second}")
    assert_invalid(response, dialect.invalid, **{name: "must be given once"})


@pytest.mark.parametrize("bad", ["%00", "a%00b"])
async def test_path_with_a_nul_is_rejected(
    dialect_client: Client, dialect: Dialect, token: str, bad: str
) -> None:
    for method, path, body in [
        ("GET", "/api/profiles/{}", None),
        ("POST", "/api/profiles/{}/follow", None),
        ("DELETE", "/api/profiles/{}/follow", None),
        ("GET", "/api/articles/{}", None),
        ("PUT", "/api/articles/{}", {"article": {"body": "new"}}),
        ("DELETE", "/api/articles/{}", None),
        ("POST", "/api/articles/{}/favorite", None),
        ("DELETE", "/api/articles/{}/favorite", None),
        ("GET", "/api/articles/{}/comments", None),
        ("POST", "/api/articles/{}/comments", {"comment": {"body": "x"}}),
        ("DELETE", "/api/articles/{}/comments/1", None),
    ]:
        response = await dialect_client.send(method, path.format(bad), body, token=token)
        name = "username" if "profiles" in path else "slug"
        assert_invalid(response, dialect.invalid, **{name: NOT_ALLOWED})


@pytest.mark.parametrize("bad", ["%FF", "a%C3", "%ED%A0%80"])
async def test_invalid_utf_8_matches_no_article_and_no_profile(client: Client, bad: str) -> None:
    response = await client.get(f"/api/articles/{bad}")
    assert_error(response, 404, "not_found", {"article": ["not found"]})
    response = await client.get(f"/api/profiles/{bad}")
    assert_error(response, 404, "not_found", {"profile": ["not found"]})
    response = await client.get(f"/api/articles?tag={bad}&author={bad}&favorited={bad}")
    assert (response.status, response.body) == (200, {"articles": [], "articlesCount": 0})


async def test_long_slug_is_not_found(client: Client) -> None:
    response = await client.get(f"/api/articles/{'a' * 7000}")
    assert_error(response, 404, "not_found", {"article": ["not found"]})


NO_STRINGS: list[Any] = [0, 1.5, True, [], ["x"], {}]
NO_LISTS: list[Any] = ["a", "", 1, True, {}, {"a": "b"}, [1], ["a", None], [["a"]], [{}]]
WRONG: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    f"{field} {value!r}": ({field: value}, {field: NOT_A_STRING})
    for field in ("title", "description", "body")
    for value in NO_STRINGS
}
WRONG |= {
    f"{field} {value!r}": ({field: value}, {field: BLANK})
    for field in ("title", "description", "body")
    for value in (None, "", " ", "\t\n\u2003")
}
WRONG |= {f"{field} NUL": ({field: "a\0"}, {field: NOT_ALLOWED}) for field in DRAGON}
WRONG |= {f"tagList {value!r}": ({"tagList": value}, {"tagList": NOT_A_LIST}) for value in NO_LISTS}
WRONG |= {
    "tagList null": ({"tagList": None}, {"tagList": BLANK}),
    "tagList NUL": ({"tagList": ["a", "b\0"]}, {"tagList": NOT_ALLOWED}),
    "1,000 tags": (
        {"tagList": [f"tag{n}" for n in range(1000)]},
        {"tagList": "is too long (maximum is 50 tags)"},
    ),
    "a tag of 10,000 characters": (
        {"tagList": ["a", "b" * 10_000]},
        {"tagList": "has a tag that is too long (maximum is 50 characters)"},
    ),
    "a long title": ({"title": "a" * 256}, {"title": "is too long (maximum is 255 characters)"}),
    "a long description": (
        {"description": "a" * 2001},
        {"description": "is too long (maximum is 2000 characters)"},
    ),
    "everything": (
        {"title": "", "description": 1, "body": None, "tagList": "a"},
        {"title": BLANK, "description": NOT_A_STRING, "body": BLANK, "tagList": NOT_A_LIST},
    ),
}


@pytest.mark.parametrize(("fields", "errors"), WRONG.values(), ids=WRONG)
async def test_invalid_fields_are_rejected_and_change_nothing(
    dialect_client: Client,
    dialect: Dialect,
    token: str,
    db: asyncpg.Connection,
    fields: dict[str, Any],
    errors: dict[str, str],
) -> None:
    before = (await dialect_client.get("/api/articles/dragons")).body
    created = {**DRAGON, **fields}
    response = await dialect_client.post("/api/articles", {"article": created}, token=token)
    assert_invalid(response, dialect.invalid, **dict(sorted(errors.items())))
    response = await dialect_client.put("/api/articles/dragons", {"article": fields}, token=token)
    assert_invalid(response, dialect.invalid, **dict(sorted(errors.items())))
    assert (await dialect_client.get("/api/articles/dragons")).body == before
    assert await db.fetchval("select count(*) from articles") == 1


async def test_create_article_names_every_missing_field(
    dialect_client: Client, dialect: Dialect, token: str
) -> None:
    response = await dialect_client.post("/api/articles", {"article": {"tagList": []}}, token=token)
    assert_invalid(response, dialect.invalid, body=BLANK, description=BLANK, title=BLANK)


@pytest.mark.parametrize("fields", [{}, {"slug": "mine"}, {"author": {}, "favorited": True}])
async def test_update_rejects_a_body_without_a_field_to_change(
    dialect_client: Client, dialect: Dialect, token: str, fields: dict[str, Any]
) -> None:
    response = await dialect_client.put("/api/articles/dragons", {"article": fields}, token=token)
    assert_invalid(response, dialect.invalid, article="must have at least one field to change")


@pytest.mark.parametrize("body", [{}, {"article": None}, {"title": "x"}], ids=str)
async def test_body_without_its_wrapper_is_rejected(
    dialect_client: Client, dialect: Dialect, token: str, body: dict[str, Any]
) -> None:
    for method, path, wrapper in [
        ("POST", "/api/articles", "article"),
        ("PUT", "/api/articles/dragons", "article"),
        ("POST", "/api/articles/dragons/comments", "comment"),
    ]:
        response = await dialect_client.send(method, path, body, token=token)
        assert_invalid(response, dialect.invalid, **{wrapper: BLANK})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, BLANK),
        ({"body": None}, BLANK),
        ({"body": ""}, BLANK),
        ({"body": " \n"}, BLANK),
        ({"body": 1}, NOT_A_STRING),
        ({"body": ["x"]}, NOT_A_STRING),
        ({"body": "\0"}, NOT_ALLOWED),
        ({"body": "a" * 10_001}, "is too long (maximum is 10000 characters)"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_invalid_comment_is_rejected(
    dialect_client: Client, dialect: Dialect, token: str, fields: dict[str, Any], message: str
) -> None:
    path = "/api/articles/dragons/comments"
    response = await dialect_client.post(path, {"comment": fields}, token=token)
    assert_invalid(response, dialect.invalid, body=message)
    assert (await dialect_client.get(path)).body == {"comments": []}


async def test_values_of_the_maximum_length_are_accepted(client: Client, alice: str) -> None:
    tags = [f"{n:02}" + "龙" * 48 for n in range(50)]
    article = await publish(client, alice, "龙" * 255, description="d" * 2000, tagList=tags)
    shown = await client.get(f"/api/articles/{article['slug']}")
    assert shown.body == {"article": article}
    assert (article["title"], article["tagList"]) == ("龙" * 255, tags)
    path = f"/api/articles/{article['slug']}/comments"
    response = await client.post(path, {"comment": {"body": "龙" * 10_000}}, token=alice)
    assert (response.status, response.body["comment"]["body"]) == (201, "龙" * 10_000)


async def test_article_body_of_a_million_bytes_is_stored(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    async def send(text: str) -> Response:
        raw = json.dumps({"article": {**DRAGON, "body": text}}).encode()
        return await client.post("/api/articles", token=alice, data=io.BytesIO(raw))

    text = "0123456789" * 100_000
    article = (await send(text)).body["article"]
    assert (await client.get(f"/api/articles/{article['slug']}")).body["article"]["body"] == text
    response = await send("a" * client.settings.max_body_size)
    assert_error(response, 413, "body_too_large", {"body": ["is too large"]})
    assert await db.fetchval("select count(*) from articles") == 1
