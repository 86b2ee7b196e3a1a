import asyncio
import re

import pytest

from service import __version__
from service.database import pool
from tests.conftest import Client, MakeClient
from tests.network import Network

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
DESCRIPTION = {
    "name": "Conduit Accounts",
    "version": __version__,
    "database": "connected",
    "documentation": "/docs",
    "openapi": "/openapi.json",
    "health": "/health",
}


@pytest.mark.parametrize("headers", [{}, {"Accept": "application/json"}, {"Accept": "*/*"}])
async def test_home_is_json_for_programs(client: Client, headers: dict[str, str]) -> None:
    response = await client.get("/", headers=headers)
    assert (response.status, response.body) == (200, DESCRIPTION)
    assert response.headers["Vary"] == "Accept"


async def test_home_is_a_page_for_browsers(client: Client) -> None:
    response = await client.get("/", headers=BROWSER)
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Vary"] == "Accept"
    for text in ("Conduit Accounts", f"Version {__version__}", "Database connected"):
        assert text in response.body
    assert "$" not in response.body


async def test_links_and_files_of_the_home_page_exist(client: Client) -> None:
    page = (await client.get("/", headers=BROWSER)).body
    paths = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    assert paths == {"/docs", "/openapi.json", "/health", "/favicon.ico", "/static/pages.css"}
    for path in paths:
        async with client.http.get(path) as response:
            assert response.status == 200


async def test_home_page_forbids_inline_code_and_foreign_files(client: Client) -> None:
    response = await client.get("/", headers=BROWSER)
    assert response.headers["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"<script|<style|\s(?:style|on\w+)=|https?:", response.body)


@pytest.mark.parametrize("headers", [{}, BROWSER])
async def test_home_responds_to_head_without_a_body(
    client: Client, headers: dict[str, str]
) -> None:
    read = await client.get("/", headers=headers)
    async with client.http.head("/", headers=headers) as response:
        assert response.status == 200
        assert await response.read() == b""
        for name in ("Content-Type", "Content-Length", "Vary"):
            assert response.headers[name] == read.headers[name]


async def test_home_ignores_the_token(client: Client) -> None:
    assert (await client.get("/", token="nonsense")).body == DESCRIPTION


async def test_home_varies_by_accept_and_origin_when_origins_are_listed(
    make_client: MakeClient,
) -> None:
    client = await make_client(cors_origins=("https://conduit.example",))
    response = await client.get("/", headers={"Origin": "https://conduit.example"})
    assert response.headers.getall("Vary") == ["Accept", "Origin"]
    assert response.headers["Access-Control-Allow-Origin"] == "https://conduit.example"


async def test_home_shows_in_time_that_the_database_is_disconnected(
    make_client: MakeClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PING_TIMEOUT", 0.2)
    # No other timeout may end the ping.
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 3600.0)
    monkeypatch.setattr(pool, "COMMAND_TIMEOUT", 3600.0)
    async with Network(database_url) as network:
        client = await make_client(network.url, user_cache_size=0)
        network.hold(b"")
        async with asyncio.timeout(20):
            response = await client.get("/")
            assert (response.status, response.body["database"]) == (200, "disconnected")
            page = (await client.get("/", headers=BROWSER)).body
        assert "Database disconnected" in page
        assert "get 503" in page
        network.lose()
