"""Test the choice of a language by ``Accept-Language``."""

from typing import Any

import pytest
from aiohttp import web

from service.http.languages import MAX_HEADER, choose_language, language_of

AVAILABLE = ("en", "de", "pt-BR")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("*", "en"),
        ("fr", "en"),
        ("de", "de"),
        ("DE", "de"),
        ("de-AT", "de"),
        ("de-Latn-AT-1996", "de"),
        ("pt-br", "pt-BR"),
        ("pt-BR-x-private", "pt-BR"),
        ("pt", "en"),
        ("deu", "en"),
        ("fr, de", "de"),
        ("en, de", "en"),
        ("de, en", "de"),
        ("en;q=0.8, de", "de"),
        ("en;q=0.8,de;q=0.9", "de"),
        ("en;q=0.899,de;q=0.9", "de"),
        ("de;q=0.5, en;q=0.5", "de"),
        ("de;q=0, fr", "en"),
        ("de;q=0.000", "en"),
        ("de ; q=1.000", "de"),
        ("de;Q=1", "de"),
        ("fr-CH, fr;q=0.9, de;q=0.7, *;q=0.5", "de"),
        ("en;q=nan, de;q=0.1", "de"),
        ("en;q=2, de;q=0.1", "de"),
        ("en;q=-1, de;q=0.1", "de"),
        ("en;q=1e9, de;q=0.1", "de"),
        ("en;q=0.1234, de;q=0.1", "de"),
        ("en;x=1, de;q=0.1", "de"),
        (",,;q=1,-,de", "de"),
        ("٣, ..\\..\\de, ../de", "en"),
    ],
)
def test_language_is_the_preferred_one_of_those_available(header: str, language: str) -> None:
    assert choose_language(header, AVAILABLE) == language


async def test_language_of_a_request_reads_a_bounded_part_of_all_its_headers(
    aiohttp_client: Any,
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=language_of(request, AVAILABLE))

    app = web.Application()
    app.router.add_get("/", handler)
    client = await aiohttp_client(app)
    within, beyond = "x," * (MAX_HEADER // 2 - 1) + "de", "x," * (MAX_HEADER // 2) + "de"
    sent = {(): "en", ("fr", "de"): "de", (within,): "de", (beyond,): "en"}
    for headers, language in sent.items():
        pairs = [("Accept-Language", header) for header in headers]
        async with client.get("/", headers=pairs) as response:
            assert await response.text() == language
