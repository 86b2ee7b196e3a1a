"""``GET /docs``: a page that needs no network, under a policy that allows none."""

import re

import pytest

from service.operations.docs import TYPES
from tests.answers import assert_error
from tests.conftest import Client


async def test_the_page_loads_and_all_it_names_is_served(client: Client) -> None:
    page = await client.get("/docs")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:src|href)="([^"]+)"', page.body)
    assert {name.removeprefix("docs/") for name in named} == {*TYPES, "openapi.json"}
    for name in named:
        async with client.http.get(f"/{name}") as asset:
            assert asset.status == 200
            assert len(await asset.read()) > 200


@pytest.mark.parametrize("path", ["/docs", *(f"/docs/{name}" for name in TYPES)])
async def test_the_policy_lets_nothing_in(client: Client, path: str) -> None:
    async with client.http.get(path) as answer:
        policy = dict(
            directive.split(" ", 1)
            for directive in answer.headers["Content-Security-Policy"].split("; ")
        )
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"].startswith(TYPES.get(path[6:], "text/html"))
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


async def test_the_page_has_no_script_or_style_within_it(client: Client) -> None:
    page = (await client.get("/docs")).body
    assert all(re.findall(r"<script( src=)?", page))
    assert "<style" not in page
    assert not re.search(r"\s(?:style|on\w+)=", page)


@pytest.mark.parametrize(
    "name",
    ["index.html", "docs.html", "swagger-ui.js", "..%2fopenapi.py", "%2e%2e%2fdocs.py", "a%00b"],
)
async def test_what_is_not_named_is_not_served(client: Client, name: str) -> None:
    answer = await client.get(f"/docs/{name}")
    assert_error(answer, 404, "not_found", {"file": ["not found"]})
