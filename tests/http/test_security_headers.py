"""Test the security headers of all responses, also of those without middlewares."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from service.app import create_app
from service.http.app_keys import DOCUMENT
from service.settings.settings import Settings
from tests.conftest import SETTINGS, Client, MakeClient
from tests.http.conftest import RawConnection, Serve
from tests.http.test_server import BAD_HTTP, TOO_LONG

HSTS = "Strict-Transport-Security"
SAFE = {"GET", "HEAD"}
PAGES_OF_LINKS = {
    "/api/auth/verify-email",
    "/api/auth/confirm-email-change",
    "/api/auth/reset-password",
    "/api/auth/unlock-login",
    "/api/auth/report",
}
"""Pages that contain the token of a mailed link. No cache may store them."""


def assert_secured(headers: Mapping[str, str], *, private: bool) -> None:
    """Assert the security headers of a response. No cache may store a ``private`` response."""
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in headers
    assert (headers.get("Cache-Control") == "no-store") is private


def every_route() -> list[tuple[str, str]]:
    """Return method and path of every route, and of requests that match no route."""
    app = create_app(Settings(**SETTINGS), "postgresql:///")
    routes = [
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    ]
    return [*routes, ("GET", "/nowhere"), ("POST", "/nowhere"), ("PATCH", "/api/user")]


@pytest.fixture
async def client(wire: RawConnection) -> Any:
    """Yield a client of the service behind its own server, not behind aiohttp's test server."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{wire.port}") as session:
        yield Client(session, Settings(**SETTINGS), wire.log)  # type: ignore[arg-type]


async def test_response_to_an_anonymous_request_has_the_security_headers(client: Client) -> None:
    for method, path in every_route():
        is_page = path in PAGES_OF_LINKS
        headers = {"Accept": "text/html"} if is_page else {}
        response = await client.send(method, path, {}, headers=headers)
        private = method not in SAFE or is_page
        assert_secured(response.headers, private=private)


async def test_response_to_an_authenticated_request_is_not_cached(client: Client) -> None:
    statuses = set()
    for number, (method, path) in enumerate(every_route()):
        name = f"user-{number}"
        token = await client.register(name)
        body = {
            "user": {"email": f"{name}@example.test", "password": f"{name}-secret"},
            "article": {"title": "a", "description": "b", "body": "c"},
        }
        for given in (token, "nonsense"):
            response = await client.send(method, path, body, token=given)
            assert_secured(response.headers, private=True)
            statuses.add(response.status)
    assert {200, 204, 401, 404, 405} <= statuses


async def test_response_with_a_token_is_not_cached(client: Client) -> None:
    device = await client.open_account("alice")
    user = {"email": "alice@example.test", "password": "alice-secret"}
    for response in (
        await client.post("/api/users/login", {"user": user}),
        await client.refresh(device.refresh),
        await client.get("/api/user", token=device.access),
    ):
        assert response.status == 200
        assert_secured(response.headers, private=True)


def names_in(document: Any, part: Any) -> Iterator[str]:
    """Yield the name of every property in a part of the OpenAPI document, at any depth."""
    if isinstance(part, dict):
        if "$ref" in part:
            referred = document
            for name in part["$ref"].removeprefix("#/").split("/"):
                referred = referred[name]
            yield from names_in(document, referred)
        yield from part.get("properties", {})
        for below in part.values():
            yield from names_in(document, below)
    elif isinstance(part, list):
        for below in part:
            yield from names_in(document, below)


CALLBACK = "/api/auth/oauth/{provider}/callback"


def test_only_responses_that_are_not_cached_document_a_token() -> None:
    """A GET route without a required user must not return a token: caches would store it."""
    document = orjson.loads(create_app(Settings(**SETTINGS), "postgresql:///")[DOCUMENT])
    found = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if any("token" in name for name in names_in(document, operation["responses"])):
                found.add((method, path))
                # A test of the callback holds that it forbids caching itself.
                is_private = operation["security"] == [{"Token": []}] or path == CALLBACK
                assert method != "get" or is_private, path
    assert found == {
        ("post", "/api/users"),
        ("post", "/api/users/login"),
        ("post", "/api/users/login/passkey"),
        ("post", "/api/auth/refresh"),
        ("post", "/api/auth/reauthenticate"),
        ("post", "/api/users/login/two-factor"),
        ("get", CALLBACK),
        ("post", "/api/auth/oauth/exchange"),
        ("get", "/api/user"),
        ("put", "/api/user"),
    }


REJECTED_BY_THE_PROTOCOL = {
    **BAD_HTTP,
    **TOO_LONG,
    "an expectation": b"GET /health HTTP/1.1\r\nHost: x\r\nExpect: x\r\nConnection: close\r\n\r\n",
    "another version": b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
    "an encoded body": b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n\r\n",
}


@pytest.mark.parametrize("raw", REJECTED_BY_THE_PROTOCOL.values(), ids=REJECTED_BY_THE_PROTOCOL)
async def test_response_of_the_protocol_has_the_security_headers(
    wire: RawConnection, raw: bytes
) -> None:
    async with asyncio.timeout(20):
        response = await wire.send(raw)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in response.headers


async def test_internal_error_outside_the_middlewares_has_the_security_headers(
    wire: RawConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the inside of the service")

    monkeypatch.setattr("service.http.request_log.route_of", fail)
    response = await wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert response.status == 500
    assert_secured(response.headers, private=False)


async def test_every_response_requires_https_when_base_url_is_https(serve: Serve) -> None:
    wire = await serve(web.RouteTableDef(), base_url="https://x.test", cors_origins=("*",))
    preflight = {"Origin": "https://y.test", "Access-Control-Request-Method": "PUT"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{wire.port}") as session:
        for method, path in [*every_route(), ("OPTIONS", "/api/user")]:
            headers = preflight if method == "OPTIONS" else {}
            async with session.request(method, path, json={}, headers=headers) as response:
                assert response.headers[HSTS] == "max-age=31536000", (method, path)
    for raw in REJECTED_BY_THE_PROTOCOL.values():
        assert (await wire.send(raw)).headers[HSTS] == "max-age=31536000", raw


@pytest.mark.parametrize("base_url", [None, "http://x.test"])
async def test_no_response_requires_https_when_base_url_is_not_https(
    serve: Serve, base_url: str | None
) -> None:
    wire = await serve(web.RouteTableDef(), base_url=base_url)
    response = await wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert response.status == 200 and HSTS not in response.headers


async def test_response_to_a_preflight_has_the_security_headers(make_client: MakeClient) -> None:
    client = await make_client(cors_origins=("*",))
    asked = {"Origin": "https://example.test", "Access-Control-Request-Method": "PUT"}
    response = await client.send("OPTIONS", "/api/user", headers=asked)
    assert response.status == 204
    assert_secured(response.headers, private=True)
