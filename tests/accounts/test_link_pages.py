"""The errors of mailed links: a page for a person, and JSON for a program."""

import gzip
from typing import Any

import pytest
from aiohttp import FormData

from service.accounts import one_time_tokens
from service.database.circuit_breaker import DatabaseUnavailable
from service.http.bodies import FORM
from service.http.errors import TooManyAttempts
from tests.accounts.mailed_links import (
    BROWSER,
    CONFIRM_CHANGE,
    DECLINE,
    REPORT,
    RESET,
    UNKNOWN_TOKEN,
    UNLOCK,
    VERIFY,
    open_page,
)
from tests.conftest import Client, MakeClient, Response

GERMAN = {**BROWSER, "Accept-Language": "de"}
FIELDS = {"token": UNKNOWN_TOKEN, "new_password": "a new secret"}
TRY_AGAIN = "Please try again", "Bitte versuchen Sie es noch einmal"
NOT_ACCEPTED = "This did not work", "Das hat nicht funktioniert"

EVERY_FORM = pytest.mark.parametrize(
    "path", [VERIFY, DECLINE, CONFIRM_CHANGE, RESET, REPORT, UNLOCK]
)
ERRORS: dict[int, tuple[Exception, str, str]] = {
    500: (RuntimeError("the inside of the service"), "again later", "später"),
    503: (DatabaseUnavailable(), "in 1 min", "in 1 min"),
}
"""An error of a handler by its status, with a part of the page in English and German."""


def assert_page(
    response: Response, status: int, titles: tuple[str, str], *, german: bool = False
) -> None:
    assert (response.status, response.headers["Content-Type"]) == (
        status,
        "text/html; charset=utf-8",
    )
    assert f"<h1>{titles[german]}</h1>" in response.body
    assert response.headers["Content-Language"] == ("de" if german else "en")
    assert response.headers["Vary"] == "Accept-Language"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Request-ID"]
    assert "form-action 'self'" in response.headers["Content-Security-Policy"]


def let_tokens_fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Raise ``error`` at every use of a token."""

    async def fail(*_: Any, **__: Any) -> None:
        raise error

    for name in ("find", "consume"):
        monkeypatch.setattr(one_time_tokens, name, fail)


@pytest.fixture(params=ERRORS)
def failure(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let every use of a token fail with an error. Return its status."""
    status: int = request.param
    let_tokens_fail(monkeypatch, ERRORS[status][0])
    return status


@EVERY_FORM
async def test_form_whose_handler_fails_gets_a_page_in_its_language(
    client: Client, failure: int, path: str
) -> None:
    _, *parts = ERRORS[failure]
    for german, headers in enumerate((BROWSER, GERMAN)):
        page = await client.send("POST", path, data=FormData(FIELDS), headers=headers)
        assert_page(page, failure, TRY_AGAIN, german=bool(german))
        assert parts[german] in page.body and "inside" not in page.body
        assert ("Retry-After" in page.headers) is (failure != 500)


@EVERY_FORM
async def test_json_request_whose_handler_fails_gets_json(
    client: Client, failure: int, path: str
) -> None:
    response = await client.send("POST", path, FIELDS, headers={"Accept-Language": "de"})
    assert response.status == failure
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.body.keys() == {"errors", "code"}


async def test_opened_link_whose_handler_fails_gets_a_page(client: Client, failure: int) -> None:
    for path in (VERIFY, CONFIRM_CHANGE, RESET, REPORT, UNLOCK):
        assert_page(await open_page(client, path, UNKNOWN_TOKEN), failure, TRY_AGAIN)


async def test_form_past_a_limit_gets_a_page_that_says_how_long_to_wait(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_tokens_fail(monkeypatch, TooManyAttempts("link", retry_after=61))
    for german, headers in enumerate((BROWSER, GERMAN)):
        page = await client.send("POST", RESET, data=FormData(FIELDS), headers=headers)
        assert_page(page, 429, TRY_AGAIN, german=bool(german))
        assert "in 2 min" in page.body and page.headers["Retry-After"] == "61"
    assert (await client.post(RESET, FIELDS)).body["code"] == "too_many_attempts"


async def test_form_that_is_too_large_gets_a_page_in_its_language(make_client: MakeClient) -> None:
    client = await make_client(max_body_size=1024)
    fields = {**FIELDS, "new_password": "x" * 2000}
    for german, headers in enumerate((BROWSER, GERMAN)):
        page = await client.send("POST", RESET, data=FormData(fields), headers=headers)
        assert_page(page, 413, NOT_ACCEPTED, german=bool(german))
    assert (await client.post(RESET, fields)).body["code"] == "body_too_large"


async def test_encoded_form_gets_a_page_in_its_language(client: Client) -> None:
    for german, headers in enumerate((BROWSER, GERMAN)):
        encoded = {**headers, "Content-Type": FORM, "Content-Encoding": "gzip"}
        body = gzip.compress(b"token=A")
        page = await client.send("POST", VERIFY, data=body, headers=encoded)
        assert_page(page, 415, NOT_ACCEPTED, german=bool(german))
        # The body was not read. What follows it on the connection is no request.
        assert page.headers["Connection"] == "close"
        assert page.headers["Accept-Encoding"] == "identity"


async def test_malformed_form_gets_a_page(client: Client) -> None:
    sent = {**BROWSER, "Content-Type": FORM}
    page = await client.send("POST", VERIFY, data=b"token=%ff", headers=sent)
    assert_page(page, 400, ("This link is not complete", ""))
