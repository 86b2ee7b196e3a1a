"""Test the flag on a route and the form of the ``Authorization`` header.

``test_access_tokens.py`` tests the content of tokens.
"""

from typing import Any

import pytest
from aiohttp import hdrs, web
from multidict import CIMultiDict

from service.app import create_app
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.settings.settings import Settings
from tests.conftest import SETTINGS, Client, Response, read
from tests.http.conftest import Extend
from tests.responses import assert_error

routes = RouteTableDef()


@routes.get("/unmarked")
async def unmarked(request: web.Request) -> web.StreamResponse:
    return json_response({"name": request["user"].username})


@routes.get("/required", auth=Auth.REQUIRED)
async def required(request: web.Request) -> web.StreamResponse:
    return json_response({"name": request["user"].username})


@routes.get("/optional", auth=Auth.OPTIONAL)
async def optional(request: web.Request) -> web.StreamResponse:
    user = request["user"]
    return json_response({"name": user.username if user is not None else None})


@routes.get("/none", auth=Auth.NONE)
async def anonymous(request: web.Request) -> web.StreamResponse:
    return json_response({"authenticated": "user" in request})


@pytest.fixture
async def service(extend: Extend) -> Client:
    """Return a client of the service with one additional route for each flag."""
    return await extend(routes)


async def ask(client: Client, path: str, *values: str) -> Response:
    """Send a GET request with one ``Authorization`` header for each of ``values``."""
    headers = CIMultiDict([("Authorization", value) for value in values])
    async with client.http.get(path, headers=headers) as received:
        return Response(received.status, await read(received), received.headers)


async def test_token_authenticates_its_user(service: Client) -> None:
    token = await service.register("alice")
    for path in ("/unmarked", "/required", "/optional"):
        response = await ask(service, path, f"Token {token}")
        assert (response.status, response.body) == (200, {"name": "alice"})


@pytest.mark.parametrize("path", ["/required", "/unmarked"])
async def test_required_route_returns_401_when_the_token_is_missing(
    service: Client, path: str
) -> None:
    response = await ask(service, path)
    assert_error(response, 401, "token_missing", {"token": ["is missing"]})
    assert response.headers["WWW-Authenticate"] == "Token"


async def test_optional_route_is_anonymous_when_the_token_is_missing(service: Client) -> None:
    response = await ask(service, "/optional")
    assert (response.status, response.body) == (200, {"name": None})


async def test_route_without_authentication_ignores_the_token(service: Client) -> None:
    token = await service.register("alice")
    for values in ([], [f"Token {token}"], ["nonsense"], ["Token x", "Token y"]):
        response = await ask(service, "/none", *values)
        assert (response.status, response.body) == (200, {"authenticated": False})


EXPECTED_FORM = "is invalid: expected the header 'Authorization: Token <jwt>'"

# `{}` stands for a valid token.
MALFORMED_HEADERS: dict[str, list[str]] = {
    "two headers, both valid": ["Token {}", "Token {}"],
    "two headers, the first valid": ["Token {}", "Bearer x"],
    "two headers, the second valid": ["Basic amFrZTp4", "Token {}"],
    "another scheme": ["Bearer {}"],
    "basic credentials": ["Basic amFrZTpqYWtlamFrZQ=="],
    "the scheme in lower case": ["token {}"],
    "the scheme in upper case": ["TOKEN {}"],
    "two spaces": ["Token  {}"],
    "a tab": ["Token\t{}"],
    "no space": ["Token{}"],
    "a colon": ["Token: {}"],
    "no scheme": ["{}"],
    "an empty header": [""],
    "the scheme alone": ["Token"],
    "the scheme and a space": ["Token "],
    "a second word": ["Token {} junk"],
    "a second token": ["Token {},Token {}"],
    "a parameter and a space": ["Token token= {}"],
    "a tab and a space": ["Token\t {}"],
}

MALFORMED_TOKENS: dict[str, list[str]] = {
    "a comma": ["Token {},"],
    "an exclamation mark": ["Token {}!"],
    "padding": ["Token {}="],
    "a newline in percent": ["Token {}%0a"],
    "a tab after it": ["Token {}\tx"],
    "quotes": ['Token "{}"'],
    "a parameter": ["Token token={}"],
    "a fourth part": ["Token {}.x"],
    "not a JWT": ["Token nonsense"],
    "three dots": ["Token ..."],
    "letters beyond ASCII": ["Token {}é"],
}


async def assert_rejected(service: Client, values: list[str], message: str) -> None:
    """Assert that required routes return 401 and that optional routes are anonymous."""
    token = await service.register("alice")
    given = [value.replace("{}", token) for value in values]
    for path in ("/required", "/unmarked"):
        response = await ask(service, path, *given)
        assert_error(response, 401, "token_invalid", {"token": [message]})
        assert response.headers["WWW-Authenticate"] == "Token"
    response = await ask(service, "/optional", *given)
    assert (response.status, response.body) == (200, {"name": None})


@pytest.mark.parametrize("values", MALFORMED_HEADERS.values(), ids=MALFORMED_HEADERS)
async def test_malformed_header_is_invalid_with_a_message_that_names_the_expected_form(
    service: Client, values: list[str]
) -> None:
    await assert_rejected(service, values, EXPECTED_FORM)


@pytest.mark.parametrize("values", MALFORMED_TOKENS.values(), ids=MALFORMED_TOKENS)
async def test_malformed_token_is_invalid(service: Client, values: list[str]) -> None:
    await assert_rejected(service, values, "is invalid")


async def test_header_name_is_case_insensitive(service: Client) -> None:
    token = await service.register("alice")
    response = await service.get("/required", headers={"aUTHORIZATION": f"Token {token}"})
    assert (response.status, response.body) == (200, {"name": "alice"})


async def test_token_in_the_query_or_a_cookie_is_ignored(service: Client) -> None:
    token = await service.register("alice")
    for options in ({"params": {"token": token}}, {"cookies": {"token": token}}):
        response = await service.get("/required", **options)
        assert_error(response, 401, "token_missing", {"token": ["is missing"]})


@pytest.mark.parametrize("path", ["/nowhere", "/api/user/nowhere"])
async def test_unknown_path_is_not_found_with_or_without_a_token(
    service: Client, path: str
) -> None:
    for values in ([], ["nonsense"]):
        response = await ask(service, path, *values)
        assert_error(response, 404, "not_found", {"path": ["not found"]})


async def test_handler_on_two_routes_must_have_the_same_flags() -> None:
    table = RouteTableDef()
    with pytest.raises(ValueError, match="handler has two routes with different flags"):

        @table.get("/one", auth=Auth.NONE)
        @table.get("/two")
        async def handler(request: web.Request) -> web.Response:
            raise NotImplementedError


async def test_handler_may_have_two_routes_with_the_same_flags() -> None:
    table = RouteTableDef()

    @table.get("/one", auth=Auth.NONE)
    @table.get("/two", auth=Auth.NONE)
    async def handler(request: web.Request) -> web.Response:
        raise NotImplementedError

    assert [route.path for route in table] == ["/two", "/one"]  # type: ignore[attr-defined]


async def test_route_of_an_aiohttp_table_requires_a_user(extend: Extend) -> None:
    plain = web.RouteTableDef()

    @plain.get("/plain")
    async def handler(request: web.Request) -> web.StreamResponse:
        return json_response({"name": request["user"].username})

    service = await extend(plain)
    response = await ask(service, "/plain")
    assert_error(response, 401, "token_missing", {"token": ["is missing"]})
    token = await service.register("alice")
    assert (await ask(service, "/plain", f"Token {token}")).body == {"name": "alice"}


async def test_routes_have_exactly_these_flags() -> None:
    settings: dict[str, Any] = SETTINGS
    app = create_app(Settings(**settings), "postgresql://nowhere/none")
    listed = {
        (route.method, route.resource.canonical, vars(route.handler)["operation"].auth)
        for route in app.router.routes()
        if route.resource is not None and route.method != hdrs.METH_HEAD
    }
    assert listed == {
        ("GET", "/health", Auth.NONE),
        ("GET", "/health/client", Auth.NONE),
        ("POST", "/api/users", Auth.NONE),
        ("POST", "/api/users/login", Auth.NONE),
        ("POST", "/api/users/login/two-factor", Auth.NONE),
        ("GET", "/api/auth/verify-email", Auth.NONE),
        ("POST", "/api/auth/verify-email", Auth.NONE),
        ("POST", "/api/auth/verify-email/decline", Auth.NONE),
        ("POST", "/api/auth/verify-email/resend", Auth.REQUIRED),
        ("GET", "/api/auth/confirm-email-change", Auth.NONE),
        ("POST", "/api/auth/confirm-email-change", Auth.NONE),
        ("POST", "/api/auth/forgot-password", Auth.NONE),
        ("GET", "/api/auth/reset-password", Auth.NONE),
        ("POST", "/api/auth/reset-password", Auth.NONE),
        ("GET", "/api/auth/unlock-login", Auth.NONE),
        ("POST", "/api/auth/unlock-login", Auth.NONE),
        ("GET", "/api/auth/report", Auth.NONE),
        ("POST", "/api/auth/report", Auth.NONE),
        ("GET", "/api/user", Auth.REQUIRED),
        ("PUT", "/api/user", Auth.REQUIRED),
        ("DELETE", "/api/user", Auth.REQUIRED),
        ("GET", "/api/user/passkeys", Auth.REQUIRED),
        ("POST", "/api/user/passkeys/options", Auth.REQUIRED),
        ("POST", "/api/user/passkeys", Auth.REQUIRED),
        ("PATCH", "/api/user/passkeys/{id}", Auth.REQUIRED),
        ("DELETE", "/api/user/passkeys/{id}", Auth.REQUIRED),
        ("POST", "/api/users/login/passkey/options", Auth.NONE),
        ("POST", "/api/users/login/passkey", Auth.NONE),
        ("GET", "/api/auth/oauth", Auth.NONE),
        ("GET", "/api/auth/oauth/{provider}", Auth.NONE),
        ("GET", "/api/auth/oauth/{provider}/callback", Auth.NONE),
        ("POST", "/api/auth/oauth/exchange", Auth.NONE),
        ("GET", "/api/user/identities", Auth.REQUIRED),
        ("POST", "/api/user/identities/{provider}", Auth.REQUIRED),
        ("POST", "/api/user/identities", Auth.REQUIRED),
        ("DELETE", "/api/user/identities/{id}", Auth.REQUIRED),
        ("POST", "/api/auth/reauthenticate/{provider}", Auth.REQUIRED),
        ("POST", "/api/auth/refresh", Auth.NONE),
        ("POST", "/api/auth/reauthenticate", Auth.REQUIRED),
        ("POST", "/api/auth/logout", Auth.REQUIRED),
        ("GET", "/api/user/sessions", Auth.REQUIRED),
        ("DELETE", "/api/user/sessions/{id}", Auth.REQUIRED),
        ("DELETE", "/api/user/sessions", Auth.REQUIRED),
        ("GET", "/api/user/events", Auth.REQUIRED),
        ("GET", "/api/user/export", Auth.REQUIRED),
        ("GET", "/api/user/two-factor", Auth.REQUIRED),
        ("POST", "/api/user/two-factor", Auth.REQUIRED),
        ("DELETE", "/api/user/two-factor", Auth.REQUIRED),
        ("POST", "/api/user/two-factor/confirm", Auth.REQUIRED),
        ("POST", "/api/user/two-factor/recovery-codes", Auth.REQUIRED),
        ("GET", "/api/admin/users", Auth.KEY),
        ("GET", "/api/admin/users/{id}", Auth.KEY),
        ("DELETE", "/api/admin/users/{id}", Auth.KEY),
        ("POST", "/api/admin/users/{id}/lock", Auth.KEY),
        ("POST", "/api/admin/users/{id}/unlock", Auth.KEY),
        ("POST", "/api/admin/users/{id}/sign-out", Auth.KEY),
        ("POST", "/api/admin/users/{id}/verify-email", Auth.KEY),
        ("POST", "/api/admin/users/{id}/reset-password", Auth.KEY),
        ("DELETE", "/api/admin/users/{id}/two-factor", Auth.KEY),
        ("PUT", "/api/admin/users/{id}/roles", Auth.KEY),
        ("GET", "/api/admin/users/{id}/sessions", Auth.KEY),
        ("DELETE", "/api/admin/users/{id}/sessions/{session_id}", Auth.KEY),
        ("GET", "/api/admin/users/{id}/export", Auth.KEY),
        ("GET", "/api/admin/users/{id}/events", Auth.KEY),
        ("POST", "/api/admin/sign-out", Auth.KEY),
        ("GET", "/api/admin/events", Auth.KEY),
        ("POST", "/api/auth/introspect", Auth.KEY),
        ("GET", "/.well-known/jwks.json", Auth.NONE),
        ("GET", "/api/profiles/{username}", Auth.OPTIONAL),
        ("POST", "/api/profiles/{username}/follow", Auth.REQUIRED),
        ("DELETE", "/api/profiles/{username}/follow", Auth.REQUIRED),
        ("GET", "/api/articles", Auth.OPTIONAL),
        ("GET", "/api/articles/feed", Auth.REQUIRED),
        ("POST", "/api/articles", Auth.REQUIRED),
        ("GET", "/api/articles/{slug}", Auth.OPTIONAL),
        ("PUT", "/api/articles/{slug}", Auth.REQUIRED),
        ("DELETE", "/api/articles/{slug}", Auth.REQUIRED),
        ("POST", "/api/articles/{slug}/favorite", Auth.REQUIRED),
        ("DELETE", "/api/articles/{slug}/favorite", Auth.REQUIRED),
        ("GET", "/api/articles/{slug}/comments", Auth.OPTIONAL),
        ("POST", "/api/articles/{slug}/comments", Auth.REQUIRED),
        ("DELETE", "/api/articles/{slug}/comments/{id}", Auth.REQUIRED),
        ("GET", "/api/tags", Auth.NONE),
        ("GET", "/openapi.json", Auth.NONE),
        ("GET", "/docs", Auth.NONE),
        ("GET", "/docs/{asset}", Auth.NONE),
        ("GET", "/", Auth.NONE),
        ("GET", "/static/{name}", Auth.NONE),
        ("GET", "/favicon.ico", Auth.NONE),
    }
