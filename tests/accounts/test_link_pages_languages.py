"""The pages of mailed links in every language."""

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import asyncpg
import pytest
from aiohttp import FormData
from jinja2 import UndefinedError

from service.accounts.link_pages import FOLDER, SAMPLES, languages, render_samples
from service.mail.templates import Templates
from tests.accounts.link_page_variants import VARIANTS, render
from tests.accounts.mailed_links import (
    BROWSER,
    UNKNOWN_TOKEN,
    VERIFY,
    client_without_delivery,
    last_token,
    open_page,
)
from tests.conftest import Client, MakeClient, Response
from tests.responses import assert_error

AUSTRIAN = {**BROWSER, "Accept-Language": "fr,de-AT;q=0.9,de;q=0.8,en;q=0.1"}


class Page(HTMLParser):
    """The elements of a page with their attributes, and its texts."""

    def __init__(self, language: str, name: str, values: Mapping[str, object]) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(render(language, name, values))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    def elements_without_language(self) -> list[tuple[str, dict[str, str | None]]]:
        """Return the elements, which are the same in every language but for ``lang``."""
        return [(tag, {**attributes, "lang": None}) for tag, attributes in self.elements]


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


def test_every_language_has_every_page_and_no_other_file() -> None:
    assert languages() == ("en", "de")
    for language in languages():
        assert {path.name for path in (FOLDER / language).iterdir()} == {
            f"{name}.html" for name in SAMPLES
        }
    assert render_samples().keys() == {(lang, name) for lang in languages() for name in SAMPLES}


@pytest.mark.parametrize(("name", "values"), VARIANTS.values(), ids=VARIANTS)
def test_pages_differ_between_languages_only_in_their_texts(
    name: str, values: Mapping[str, object]
) -> None:
    english, *others = [Page(language, name, values) for language in languages()]
    assert ("html", {"lang": "en"}) in english.elements
    for language, page in zip(languages()[1:], others, strict=True):
        assert ("html", {"lang": language}) in page.elements
        assert page.elements_without_language() == english.elements_without_language()
        assert set(page.texts) & set(english.texts) <= {str(values.get("email"))}


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize("name", SAMPLES)
def test_page_uses_each_of_its_values(language: str, name: str) -> None:
    for missing in SAMPLES[name]:
        with pytest.raises(UndefinedError, match=f"'{missing}' is undefined"):
            show_without(missing, language, name)


def show_without(missing: str, language: str, name: str) -> None:
    """Show every variant of a page without one of its values, which not every variant uses."""
    for variant, values in VARIANTS.values():
        if variant == name:
            kept = {key: value for key, value in values.items() if key != missing}
            Page(language, name, kept)


@pytest.mark.parametrize("language", languages())
def test_mail_names_the_button_of_its_page_in_the_same_language(language: str) -> None:
    mail = Templates(None, "accounts.example.org").render_samples()[language, "verify_email"]
    page = Page(language, "verify_email", SAMPLES["verify_email"])
    label = page.texts[-1].partition(":")[0]
    for part in (mail.text, mail.html):
        assert label in " ".join(part.split())


async def german(client: Client, method: str, path: str, **options: Any) -> Response:
    """Send a request as the browser of a person who prefers German to English."""
    return await client.send(method, path, headers=AUSTRIAN, **options)


async def test_page_has_the_language_that_the_browser_prefers(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await last_token(db, "alice@example.test")
    expected = {
        "Bestätigen Sie Ihre E-Mail-Adresse": await german(
            client, "GET", VERIFY, params={"token": token}
        ),
        "E-Mail-Adresse bestätigt": await german(
            client, "POST", VERIFY, data=FormData({"token": token})
        ),
        "Dieser Link gilt nicht": await german(
            client, "POST", VERIFY, data=FormData({"token": token})
        ),
        "Dieser Link ist nicht vollständig": await german(client, "GET", VERIFY),
    }
    for title, page in expected.items():
        assert f"<h1>{title}</h1>" in page.body and '<html lang="de">' in page.body
        assert page.headers["Content-Language"] == "de"
        assert page.headers["Vary"] == "Accept-Language"


async def test_page_is_in_english_for_other_languages_and_without_one(client: Client) -> None:
    for language in ({}, {"Accept-Language": "fr"}, {"Accept-Language": "*"}):
        page = await client.get(VERIFY, headers={**BROWSER, **language})
        assert "<h1>This link is not complete</h1>" in page.body
        assert '<html lang="en">' in page.body and page.headers["Content-Language"] == "en"


async def test_language_of_a_page_does_not_depend_on_that_of_the_mail(
    client: Client, db: asyncpg.Connection
) -> None:
    user = {"username": "alice", "email": "alice@example.test", "password": "alice-secret"}
    sent = {"user": user}
    registered = await client.send("POST", "/api/users", sent, headers={"Accept-Language": "de"})
    assert registered.status == 200
    assert await db.fetchval("select language from outbox") == "de"
    page = await open_page(client, VERIFY, await last_token(db, "alice@example.test"))
    assert "<h1>Confirm your email</h1>" in page.body


async def test_page_and_its_origin_both_vary_the_response(make_client: MakeClient) -> None:
    client = await make_client(cors_origins=("https://example.org",))
    page = await client.get(VERIFY, headers=BROWSER)
    assert page.headers.getall("Vary") == ["Accept-Language", "Origin"]


async def test_json_is_in_english_whatever_the_client_prefers(client: Client) -> None:
    headers = {"Accept-Language": "de"}
    response = await client.send("POST", VERIFY, {"token": UNKNOWN_TOKEN}, headers=headers)
    assert_error(response, 404, "not_found", {"token": ["not found"]})
    assert "Content-Language" not in response.headers
