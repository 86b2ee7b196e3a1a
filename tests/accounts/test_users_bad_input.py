"""Invalid bodies: each of them is rejected as invalid input, and none causes a 500."""

import io
import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import Client, Dialect, Response
from tests.responses import assert_invalid

BLANK = "can't be blank"
NOT_ALLOWED = "has a character that is not allowed"


@dataclass(frozen=True)
class Route:
    """A route with a body, and valid fields for it."""

    method: str
    path: str
    fields: dict[str, Any]
    with_token: bool = False


ROUTES = {
    "register": Route(
        "POST",
        "/api/users",
        {"username": "jake", "email": "jake@jake.jake", "password": "jakejake"},
    ),
    "login": Route(
        "POST", "/api/users/login", {"email": "alice@example.test", "password": "alice-secret"}
    ),
    "update": Route("PUT", "/api/user", {"bio": "new"}, with_token=True),
    "delete": Route("DELETE", "/api/user", {"password": "alice-secret"}, with_token=True),
}
FIELDS = [
    ("register", "username"),
    ("register", "email"),
    ("register", "password"),
    ("login", "email"),
    ("login", "password"),
    ("update", "username"),
    ("update", "email"),
    ("update", "password"),
    ("update", "bio"),
    ("update", "image"),
    ("delete", "password"),
]


@pytest.fixture
async def dialect_token(dialect_client: Client) -> str:
    """Return the token of Alice, in the dialect of the test."""
    return await dialect_client.register("alice")


async def send(client: Client, token: str, route: Route, raw: bytes | None) -> Response:
    return await client.send(
        route.method,
        route.path,
        token=token if route.with_token else None,
        data=raw,
        headers={"Content-Type": "application/json"},
    )


BROKEN = {
    "no body": None,
    "an empty body": b"",
    "blanks": b" \n",
    "not JSON": b"username=jake",
    "half an object": b'{"user": {"email": "jake@jake.jake"',
    "two objects": b'{"user": {}} {"user": {}}',
    "a trailing comma": b'{"user": {},}',
    "single quotes": b"{'user': {}}",
    "NaN": b'{"user": {"username": NaN}}',
    "Infinity": b'{"user": {"bio": Infinity}}',
    "minus Infinity": b'{"user": {"bio": -Infinity}}',
    "broken UTF-8": b'{"user": {"username": "j\xff\xfeke"}}',
    "half a UTF-8 character": b'{"user": {"username": "jak\xc3',
    "a surrogate in UTF-8": b'{"user": {"username": "\xed\xa0\x80"}}',
    "UTF-16": '{"user": {}}'.encode("utf-16"),
    "a raw NUL in a string": b'{"user": {"username": "ja\x00ke"}}',
    "a raw NUL outside a string": b'{"user": \x00{}}',
    "a raw newline in a string": b'{"user": {"username": "ja\nke"}}',
    "a lone high surrogate": b'{"user": {"username": "\\ud800"}}',
    "a lone low surrogate": b'{"user": {"username": "\\udc00x"}}',
    "a lone surrogate in a key": b'{"user": {"\\ud800": 1}}',
    "a lone surrogate in an unknown field": b'{"user": {}, "x": ["\\ud800"]}',
    "10,000 lists": b'{"user": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10,000 objects": b'{"user": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    "10,000 lists never closed": b"[" * 10_000,
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_body_is_rejected_when_it_is_not_json(
    dialect_client: Client, dialect: Dialect, dialect_token: str, body: bytes | None
) -> None:
    for route in ROUTES.values():
        response = await send(dialect_client, dialect_token, route, body)
        assert_invalid(response, dialect.invalid, body="is not valid JSON")


@pytest.mark.parametrize(
    "body", [b"[]", b'[{"user": {}}]', b'"user"', b"5", b"1.5e3", b"null", b"true"]
)
async def test_body_is_rejected_when_it_is_not_an_object(
    dialect_client: Client, dialect: Dialect, dialect_token: str, body: bytes
) -> None:
    for route in ROUTES.values():
        response = await send(dialect_client, dialect_token, route, body)
        assert_invalid(response, dialect.invalid, body="must be a JSON object")


WRAPPERS = {
    "no wrapper": ({}, BLANK),
    "another wrapper": ({"account": {}}, BLANK),
    "a wrapper in another case": ({"User": {}}, BLANK),
    "null": ({"user": None}, BLANK),
    "a list": ({"user": []}, "must be an object"),
    "a list of objects": ({"user": [{}]}, "must be an object"),
    "a string": ({"user": "jake"}, "must be an object"),
    "an empty string": ({"user": ""}, "must be an object"),
    "a number": ({"user": 0}, "must be an object"),
    "a boolean": ({"user": False}, "must be an object"),
}


@pytest.mark.parametrize(("body", "message"), WRAPPERS.values(), ids=WRAPPERS)
async def test_body_is_rejected_when_it_lacks_the_wrapper(
    dialect_client: Client,
    dialect: Dialect,
    dialect_token: str,
    body: dict[str, Any],
    message: str,
) -> None:
    for route in ROUTES.values():
        response = await send(dialect_client, dialect_token, route, json.dumps(body).encode())
        assert_invalid(response, dialect.invalid, user=message)


async def test_fields_outside_the_wrapper_are_ignored(client: Client) -> None:
    response = await client.post("/api/users", ROUTES["register"].fields)
    assert_invalid(response, 400, user=BLANK)


@pytest.mark.parametrize(
    "value", [0, 1, -1.5, True, False, [], ["jake"], {}, {"a": "b"}], ids=json.dumps
)
async def test_field_is_rejected_when_it_is_not_a_string(
    dialect_client: Client, dialect: Dialect, dialect_token: str, value: Any
) -> None:
    for name, field in FIELDS:
        route = ROUTES[name]
        body = {"user": {**route.fields, field: value}}
        response = await send(dialect_client, dialect_token, route, json.dumps(body).encode())
        assert_invalid(response, dialect.invalid, **{field: "must be a string"})


@pytest.mark.parametrize("value", ["absent", None, "", " ", "\t\n", "\u2003\u00a0"], ids=repr)
async def test_required_field_is_rejected_when_it_is_missing_or_blank(
    dialect_client: Client,
    dialect: Dialect,
    dialect_token: str,
    value: str | None,
) -> None:
    for name, field in FIELDS:
        if name == "update":
            continue
        route = ROUTES[name]
        fields = {**route.fields, field: value}
        if value == "absent":
            del fields[field]
        response = await send(
            dialect_client, dialect_token, route, json.dumps({"user": fields}).encode()
        )
        assert_invalid(response, dialect.invalid, **{field: BLANK})


async def test_field_is_rejected_when_it_contains_an_escaped_nul(
    dialect_client: Client, dialect: Dialect, dialect_token: str
) -> None:
    for name, field in FIELDS:
        route = ROUTES[name]
        body = {"user": {**route.fields, field: "long\0enough"}}
        response = await send(dialect_client, dialect_token, route, json.dumps(body).encode())
        assert_invalid(response, dialect.invalid, **{field: NOT_ALLOWED})


NULS = {
    "in an unknown field": ({"user": {}, "other": "\0"}, "other"),
    "in an unknown field of the wrapper": ({"user": {"other": "a\0"}}, "other"),
    "in a list": ({"user": {}, "other": [1, [2, "\0"]]}, "other"),
    "deep below": ({"user": {"a": {"b": [{"c": "\0"}]}}}, "c"),
    "in a key": ({"user": {}, "ot\0her": 1}, "body"),
    "in a key of the wrapper": ({"user": {"\0": 1}}, "user"),
}


@pytest.mark.parametrize(("extra", "place"), NULS.values(), ids=NULS)
async def test_body_is_rejected_when_it_contains_a_nul_anywhere(
    dialect_client: Client,
    dialect: Dialect,
    dialect_token: str,
    extra: dict[str, Any],
    place: str,
) -> None:
    for route in ROUTES.values():
        body = {**extra, "user": {**route.fields, **extra["user"]}}
        response = await send(dialect_client, dialect_token, route, json.dumps(body).encode())
        assert_invalid(response, dialect.invalid, **{place: NOT_ALLOWED})


@pytest.mark.parametrize(
    "other",
    [{str(number): "\0" for number in range(50_000)}, {"a" * 1_000_000: "\0"}],
    ids=["many names", "a long name"],
)
async def test_response_stays_small_when_many_names_have_a_nul(
    client: Client, other: dict[str, str]
) -> None:
    raw = json.dumps({"user": {}, "other": other}).encode()
    assert len(raw) < client.settings.max_body_size
    response = await client.post("/api/users", data=io.BytesIO(raw))
    assert (response.status, response.body["code"]) == (400, "invalid_input")
    assert int(response.headers["Content-Length"]) < 10_000


async def test_fields_with_a_nul_are_reported_with_the_other_errors(client: Client) -> None:
    user = {"username": "ja\0ke", "email": "no email", "password": "long\0enough"}
    response = await client.post("/api/users", {"user": user, "other": ["\0"]})
    refused = dict.fromkeys(("other", "password", "username"), NOT_ALLOWED)
    assert_invalid(response, 400, email="is not a valid email address", **refused)


async def test_escaped_backslash_before_u0000_is_text(client: Client, alice: str) -> None:
    response = await client.put("/api/user", {"user": {"bio": "\\u0000"}}, token=alice)
    assert (response.status, response.body["user"]["bio"]) == (200, "\\u0000")


async def test_escaped_surrogate_pair_is_a_character(client: Client, alice: str) -> None:
    raw = b'{"user": {"bio": "\\ud83d\\ude00"}}'
    response = await client.put("/api/user", token=alice, data=raw)
    assert (response.status, response.body["user"]["bio"]) == (200, "😀")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=latin-1", "text/plain", "multipart/form-data"],
)
async def test_body_is_parsed_as_json_with_any_content_type(
    client: Client, alice: str, content_type: str
) -> None:
    raw = '{"user": {"bio": "ü"}}'.encode()
    headers = {"Content-Type": content_type}
    response = await client.put("/api/user", token=alice, data=raw, headers=headers)
    assert (response.status, response.body["user"]["bio"]) == (200, "ü")


@pytest.mark.parametrize("name", ["update", "delete"])
async def test_body_is_not_validated_without_a_user(client: Client, name: str) -> None:
    route = ROUTES[name]
    response = await client.send(route.method, route.path, data=b"not JSON")
    assert (response.status, response.body["code"]) == (401, "token_missing")


async def test_last_of_equal_keys_is_used(client: Client, alice: str) -> None:
    raw = b'{"user": {"bio": "first", "bio": "last"}}'
    response = await client.put("/api/user", token=alice, data=raw)
    assert (response.status, response.body["user"]["bio"]) == (200, "last")
