"""``GET /docs`` needs no network, and its policy allows none."""

import re

import pytest

from service.operations.docs import TYPES
from tests.conftest import Client
from tests.responses import assert_error


async def test_page_loads_and_its_files_are_served(client: Client) -> None:
    page = await client.get("/docs")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    paths = re.findall(r'(?:src|href)="([^"]+)"', page.body)
    assets = {f"/docs/{name}" for name in TYPES}
    assert set(paths) == {*assets, "/openapi.json", "/favicon.ico"}
    for path in paths:
        async with client.http.get(path) as asset:
            assert asset.status == 200
            assert len(await asset.read()) > 200


async def test_page_is_the_same_with_a_slash_at_the_end(client: Client) -> None:
    page = await client.get("/docs")
    async with client.http.get("/docs/") as response:
        assert response.status == 200
        assert await response.text() == page.body
        for name in ("Content-Type", "Content-Security-Policy", "Referrer-Policy"):
            assert response.headers[name] == page.headers[name]
    async with client.http.get("/docs/docs.js") as script:
        # A relative URL would lead to /docs/openapi.json from here.
        assert 'url: "/openapi.json"' in await script.text()


@pytest.mark.parametrize("path", ["/docs", *(f"/docs/{name}" for name in TYPES)])
async def test_policy_forbids_foreign_files(client: Client, path: str) -> None:
    async with client.http.get(path) as response:
        policy = dict(
            directive.split(" ", 1)
            for directive in response.headers["Content-Security-Policy"].split("; ")
        )
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Type"].startswith(TYPES.get(path[6:], "text/html"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


async def test_page_has_no_inline_script_or_style(client: Client) -> None:
    page = (await client.get("/docs")).body
    assert all(re.findall(r"<script( src=)?", page))
    assert "<style" not in page
    assert not re.search(r"\s(?:style|on\w+)=", page)


@pytest.mark.parametrize(
    "name",
    ["index.html", "docs.html", "swagger-ui.js", "..%2fopenapi.py", "%2e%2e%2fdocs.py", "a%00b"],
)
async def test_other_files_are_not_found(client: Client, name: str) -> None:
    response = await client.get(f"/docs/{name}")
    assert_error(response, 404, "not_found", {"file": ["not found"]})
