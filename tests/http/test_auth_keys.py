"""Routes that require an API key: the ``Authorization`` header, the scope, and the revocation."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import orjson
import pytest
import voluptuous as vol
from aiohttp import web
from multidict import CIMultiDict

from service.accounts.administration.api_keys import create_key, revoke_key
from service.accounts.throttling import throttle
from service.database.pool import DATABASE
from service.http.bodies import read_body
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.settings.rate_limit import Limit
from tests.conftest import Client, Response, read
from tests.http.conftest import Extend, RawConnection, Serve, response_of
from tests.responses import assert_error

routes = RouteTableDef()


@routes.get("/users", auth=Auth.KEY, scope="users:read")
async def readable(request: web.Request) -> web.StreamResponse:
    return json_response({"key": request["key"].name, "user": request.get("user")})


@routes.post(
    "/users", auth=Auth.KEY, scope="users:write", body=vol.Schema({}, extra=vol.ALLOW_EXTRA)
)
async def writable(request: web.Request) -> web.StreamResponse:
    await read_body(request)
    return json_response({"key": request["key"].name})


@routes.get("/anyone", auth=Auth.OPTIONAL)
async def optional(request: web.Request) -> web.StreamResponse:
    return json_response({"user": request["user"]})


MISSING = 'Bearer realm="accounts"'
INVALID = 'Bearer realm="accounts", error="invalid_token"'
LACKS_WRITE = 'Bearer realm="accounts", error="insufficient_scope", scope="users:write"'
EXPECTED_FORM = "is invalid: expected the header 'Authorization: Bearer <key>'"


@pytest.fixture
async def service(extend: Extend) -> Client:
    return await extend(routes)


MakeKey = Callable[..., Awaitable[str]]


@pytest.fixture
def make_key(service: Client) -> MakeKey:
    """Return a function that creates a key with the given scopes."""

    async def make(*scopes: str, name: str = "backoffice") -> str:
        return await create_key(database_of(service), name, scopes)

    return make


def database_of(client: Client) -> Any:
    assert client.http.app is not None
    return client.http.app[DATABASE]


async def ask(client: Client, path: str, *values: str, method: str = "GET") -> Response:
    """Send a request with one ``Authorization`` header for each of ``values``."""
    headers = CIMultiDict([("Authorization", value) for value in values])
    async with client.http.request(method, path, headers=headers, json={}) as received:
        return Response(received.status, await read(received), received.headers)


def assert_invalid_key(response: Response, message: str = "is invalid") -> None:
    assert_error(response, 401, "key_invalid", {"key": [message]})
    assert response.headers["WWW-Authenticate"] == INVALID
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_key_with_the_scope_is_accepted(
    service: Client, make_key: MakeKey, scheme: str
) -> None:
    key = await make_key("users:read", "events:read")
    response = await ask(service, "/users", f"{scheme} {key}")
    assert (response.status, response.body) == (200, {"key": "backoffice", "user": None})


async def test_request_without_a_key_is_401_without_an_error_in_the_challenge(
    service: Client,
) -> None:
    for method in ("GET", "POST"):
        response = await ask(service, "/users", method=method)
        assert_error(response, 401, "key_missing", {"key": ["is missing"]})
        assert response.headers["WWW-Authenticate"] == MISSING


async def test_key_without_the_scope_is_403(service: Client, make_key: MakeKey) -> None:
    key = await make_key("users:read")
    response = await ask(service, "/users", f"Bearer {key}", method="POST")
    assert_error(response, 403, "scope_required", {"key": ["does not have the scope users:write"]})
    assert response.headers["WWW-Authenticate"] == LACKS_WRITE


# `{}` stands for a valid key.
MALFORMED_HEADERS: dict[str, list[str]] = {
    "two headers, both valid": ["Bearer {}", "Bearer {}"],
    "two headers, the first valid": ["Bearer {}", "Token x"],
    "two headers, the second valid": ["Token x", "Bearer {}"],
    "the scheme of users": ["Token {}"],
    "basic credentials": ["Basic amFrZTpqYWtlamFrZQ=="],
    "two spaces": ["Bearer  {}"],
    "a tab": ["Bearer\t{}"],
    "no space": ["Bearer{}"],
    "no scheme": ["{}"],
    "an empty header": [""],
    "the scheme alone": ["Bearer"],
    "the scheme and a space": ["Bearer "],
    "a second word": ["Bearer {} junk"],
    "two keys": ["Bearer {}, Bearer {}"],
}
MALFORMED_KEYS = {
    "a comma": "Bearer {},",
    "padding": "Bearer {}=",
    "a newline in percent": "Bearer {}%0a",
    "quotes": 'Bearer "{}"',
    "a character more": "Bearer {}a",
    "another prefix": "Bearer other_key_{}",
    "a control character": "Bearer {}\x01",
    "letters beyond ASCII": "Bearer {}é",
    "invalid UTF-8": "Bearer {}\udcff",
    "8,000 characters": "Bearer " + "a" * 8000,
}


@pytest.mark.parametrize("values", MALFORMED_HEADERS.values(), ids=MALFORMED_HEADERS)
async def test_malformed_header_is_invalid_with_a_message_that_names_the_expected_form(
    service: Client, make_key: MakeKey, values: list[str]
) -> None:
    key = await make_key("users:read")
    response = await ask(service, "/users", *(value.replace("{}", key) for value in values))
    assert_invalid_key(response, EXPECTED_FORM)


@pytest.fixture
async def wire(serve: Serve) -> RawConnection:
    return await serve(routes)


def raw_request(value: bytes) -> bytes:
    head = b"GET /users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: "
    return head + value + b"\r\n\r\n"


@pytest.mark.parametrize("value", MALFORMED_KEYS.values(), ids=MALFORMED_KEYS)
async def test_malformed_key_is_invalid(wire: RawConnection, make_key: MakeKey, value: str) -> None:
    key = await make_key("users:read")
    accepted = await wire.send(raw_request(f"Bearer {key}".encode()))
    assert accepted.status == 200
    sent = value.replace("{}", key).encode(errors="surrogateescape")
    response = await wire.send(raw_request(sent))
    assert response.status in (400, 401)
    if response.status == 401:
        assert_invalid_key(response)
    else:
        assert_error(response, 400, "bad_request", {"request": ["is not valid HTTP"]})


async def send_until_closed(writer: asyncio.StreamWriter, size: int) -> int:
    """Write ``size`` bytes, and return how many were written when the service closed."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < size:
            writer.write(b"a" * 65_536)
            await writer.drain()
            sent += 65_536
    return sent


async def test_header_of_ten_megabytes_is_rejected_before_all_of_it_is_sent(
    wire: RawConnection,
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(b"GET /users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ")
    async with asyncio.timeout(20):
        assert await send_until_closed(writer, 10_000_000) < 10_000_000
    writer.close()
    response = await wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert response.status == 200


async def test_token_of_a_user_is_no_key_and_a_key_is_no_token(
    service: Client, make_key: MakeKey
) -> None:
    token, key = await service.register("alice"), await make_key("users:read", "users:write")
    for value in (f"Token {token}", f"Bearer {token}"):
        response = await ask(service, "/users", value)
        assert (response.status, response.body["code"]) == (401, "key_invalid")
    for value in (f"Token {key}", f"Bearer {key}"):
        response = await ask(service, "/api/user", value)
        assert (response.status, response.body["code"]) == (401, "token_invalid")
        assert response.headers["WWW-Authenticate"] == "Token"
        assert (await ask(service, "/anyone", value)).body == {"user": None}


async def test_key_in_the_query_or_a_cookie_is_ignored(service: Client, make_key: MakeKey) -> None:
    key = await make_key("users:read")
    for options in ({"params": {"access_token": key}}, {"cookies": {"access_token": key}}):
        response = await service.get("/users", **options)
        assert_error(response, 401, "key_missing", {"key": ["is missing"]})


async def test_revoked_key_is_rejected_by_the_next_request_in_every_process(
    service: Client, make_key: MakeKey, extend: Extend, caplog: pytest.LogCaptureFixture
) -> None:
    other = await extend(routes)
    key = await make_key("users:read")
    for client in (service, other):
        assert (await ask(client, "/users", f"Bearer {key}")).status == 200
    await revoke_key(database_of(service), "backoffice")
    for response in await asyncio.gather(
        *(ask(client, "/users", f"Bearer {key}") for client in (service, other) * 5)
    ):
        assert_invalid_key(response)
    assert set(caplog.messages) == {"revoked API key used: key=backoffice ip=127.0.0.1"}


async def test_key_that_is_revoked_while_the_body_arrives_is_rejected(
    service: Client, make_key: MakeKey, wire: RawConnection, db: asyncpg.Connection
) -> None:
    key = await make_key("users:write")
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(
        b"POST /users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
        b"Authorization: Bearer " + key.encode() + b"\r\n\r\n"
    )
    async with asyncio.timeout(20):
        while await db.fetchval("select last_used_at from api_keys") is None:
            pass  # The service has not accepted the key yet.
        await revoke_key(database_of(service), "backoffice")
        writer.write(b"{}")
        assert_invalid_key(response_of(await reader.read()))
    writer.close()


async def test_wrong_keys_past_the_limit_of_an_ip_are_429_and_a_valid_key_is_not(
    service: Client, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "WRONG_KEY_LIMIT", Limit(3, 60))
    key = await make_key("users:read")
    wrong = f"Bearer {key[:-1]}{'a' if key[-1] != 'a' else 'b'}"
    responses = await asyncio.gather(*(ask(service, "/users", wrong) for _ in range(10)))
    assert sorted(response.status for response in responses) == [401] * 3 + [429] * 7
    rejected = await ask(service, "/users", wrong)
    assert_error(rejected, 429, "too_many_attempts", {"key": ["too many attempts"]})
    assert 1 <= int(rejected.headers["Retry-After"]) <= 60
    assert (await ask(service, "/users", f"Bearer {key}")).status == 200


async def test_use_of_a_key_is_recorded_once_an_hour(
    service: Client, make_key: MakeKey, db: asyncpg.Connection
) -> None:
    key = await make_key("users:read")
    times = []
    for age in ("0", "59 minutes", "61 minutes"):
        await db.execute(f"update api_keys set last_used_at = last_used_at - interval '{age}'")  # noqa: S608
        before = await db.fetchval("select last_used_at from api_keys")
        assert (await ask(service, "/users", f"Bearer {key}")).status == 200
        times.append(await db.fetchval("select last_used_at from api_keys") == before)
    assert times == [False, True, False]


@pytest.mark.parametrize("origins", [("*",), ("https://conduit.example",)])
async def test_page_of_no_origin_may_call_a_route_with_a_key(
    extend: Extend, origins: tuple[str, ...]
) -> None:
    service = await extend(routes, cors_origins=origins)
    key = await create_key(database_of(service), "backoffice", ["users:read"])
    headers = {"Origin": "https://conduit.example", "Access-Control-Request-Method": "POST"}
    response = await service.send("OPTIONS", "/users", headers=headers)
    assert response.status == 405
    assert "Access-Control-Allow-Origin" not in response.headers
    headers = {"Origin": "https://conduit.example", "Authorization": f"Bearer {key}"}
    response = await service.get("/users", headers=headers)
    assert response.status == 200
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("flags", [{"auth": Auth.KEY}, {"scope": "users:read"}])
def test_route_with_a_key_must_name_its_scope(flags: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must have both a scope and Auth.KEY"):
        RouteTableDef().get("/users", **flags)


async def test_log_line_of_a_request_has_the_name_of_the_key(
    service: Client, make_key: MakeKey
) -> None:
    key = await make_key("users:read")
    assert (await ask(service, "/users", f"Bearer {key}")).status == 200
    line = orjson.loads(service.log.getvalue().splitlines()[-1])
    assert (line["route"], line["user_id"], line["key"]) == ("/users", None, "backoffice")
    assert key not in service.log.getvalue()
