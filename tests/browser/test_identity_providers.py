"""Log in through a provider in Chromium: a front-end runs the code of the document.

The provider is the certified one, with its own pages.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from selenium.webdriver import Chrome
from yarl import URL

from tests.browser.browser import Browser, ScriptError
from tests.browser.front_end import PROVIDERS, FrontEnd, documented
from tests.browser.provider_login import log_in_at_provider
from tests.browser.service import Service
from tests.oidc_provider.process import CLIENT_SECRET, OIDCProvider
from tests.processes import free_port, serve

NAME = "main"
LOGIN_FORM = "input[name=login]"


@pytest.fixture(scope="module")
def service(
    chromium: Chrome,
    front_end: str,
    oidc_provider: OIDCProvider,
    new_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Start the service with the provider. The front-end gets the results."""
    url, port = new_database(), free_port()
    base_url = f"http://localhost:{port}"
    oidc_provider.add_client(f"{base_url}/api/auth/oauth/{NAME}/callback", client_id="browser")
    provider = {
        "name": NAME,
        "label": "Example Inc.",
        "issuer": oidc_provider.issuer,
        "client_id": "browser",
        "client_secret": CLIENT_SECRET,
    }
    settings = {
        "DATABASE_URL": url,
        "PORT": str(port),
        "BASE_URL": base_url,
        "CORS_ORIGINS": front_end,
        "OIDC_PROVIDERS": json.dumps([provider]),
        "REDIRECT_URLS": ",".join(
            f"{front_end}/{page}" for page in ("signed-in", "linked", "proved")
        ),
    }
    with (
        serve(tmp_path_factory.mktemp("service"), **settings) as process,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        yield Service(process.wait_until_serving(), connection)


def begin(page: FrontEnd, browser: Browser, subject: str, **arguments: object) -> None:
    """Run the code that begins, and wait for the form of the provider."""
    page.run(documented(subject, PROVIDERS), **arguments)
    browser.wait_for(LOGIN_FORM)


def finish(page: FrontEnd, subject: str, result: str) -> Any:
    """Run the code that finishes, and return its ``result``."""
    return page.run(documented(subject, PROVIDERS) + f"return {result};")


def sign_in(browser: Browser, service: Service, front_end: str, login: str) -> FrontEnd:
    """Log in through the provider as ``login``. Return the front-end with the token."""
    browser.open(front_end)
    page = FrontEnd(browser, service)
    begin(page, browser, "Begin a login")
    log_in_at_provider(browser, login)
    assert browser.url.startswith(f"{front_end}/signed-in?code=")
    session = finish(page, "Finish the login", "session")
    page.token = session["user"]["token"]
    return page


def user_of(page: FrontEnd) -> Any:
    return page.run("return (await call('GET', '/api/user')).user;")


def test_person_logs_in_through_a_provider(
    service: Service, browser: Browser, front_end: str
) -> None:
    page = sign_in(browser, service, front_end, "nora")
    assert user_of(page)["email"] == "nora@example.test"
    # The code is of no use to a person who sees it in the history of the browser.
    with pytest.raises(ScriptError, match="provider_code_invalid"):
        finish(page, "Finish the login", "session")
    assert browser.console(front_end) == []


def test_user_links_an_identity(service: Service, browser: Browser, front_end: str) -> None:
    token = service.process.register("linus")
    service.fetch("update users set email_verified_at = now(), ever_verified = true returning id")
    browser.open(front_end)
    page = FrontEnd(browser, service, token)
    begin(page, browser, "Begin a link", name=NAME)
    log_in_at_provider(browser, "linus-at-work")
    identity = finish(page, "Finish the link", "identity")
    assert (identity["provider"], identity["email"]) == (NAME, "linus-at-work@example.test")
    listed = page.run("return (await call('GET', '/api/user/identities')).identities;")
    assert listed == [identity]


def test_user_proves_again_who_they_are(service: Service, browser: Browser, front_end: str) -> None:
    page = sign_in(browser, service, front_end, "petra")
    with pytest.raises(ScriptError, match="reauthentication_required"):
        page.run("return call('GET', '/api/user/export');")
    # The provider asks for the login again, although the person is logged in there.
    begin(page, browser, "Begin a proof", name=NAME)
    log_in_at_provider(browser, "petra")
    tokens = finish(page, "Finish the proof", "tokens")
    page.token = tokens["access_token"]
    document = page.run("return call('GET', '/api/user/export');")
    assert document["identities"][0]["subject"] == "petra"


def test_two_flows_of_one_browser_both_finish(
    service: Service, browser: Browser, front_end: str
) -> None:
    browser.open(front_end)
    page = FrontEnd(browser, service)
    begin(page, browser, "Begin a login")
    first = browser.url
    browser.open(front_end)
    verifier = page.run("return sessionStorage.getItem('code_verifier');")
    begin(page, browser, "Begin a login")
    log_in_at_provider(browser, "tess")
    session = finish(page, "Finish the login", "session")
    assert session["user"]["username"] == "tess"
    # The first tab goes on. Its front-end has another secret.
    browser.open(first)
    log_in_at_provider(browser, "tess")
    page.run("sessionStorage.setItem('code_verifier', verifier);", verifier=verifier)
    assert finish(page, "Finish the login", "session")["user"]["username"] == "tess"


def test_callback_of_an_attacker_does_nothing_in_the_browser_of_a_victim(
    service: Service, browser: Browser, front_end: str, chromium: Chrome
) -> None:
    """The attacker has logged in, and sends their callback URL to the victim."""
    browser.open(front_end)
    page = FrontEnd(browser, service)
    begin(page, browser, "Begin a login")
    query = "select count(*) from users"
    before = service.fetch(query)
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    state = "A" * 43
    browser.open(service.url(f"/api/auth/oauth/{NAME}/callback?code=x&state={state}"))
    assert browser.heading == "You are not logged in"
    assert browser.accessibility_errors() == []
    assert service.fetch(query) == before


def test_every_example_is_run() -> None:
    text = PROVIDERS.read_text(encoding="utf-8")
    parts = re.split(r"^\*\*", text, flags=re.MULTILINE)
    shown = [part.partition(".**")[0] for part in parts if "```js\n" in part]
    assert len(shown) == text.count("```js\n") > 0
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [subject for subject in shown if f'"{subject}"' not in tests] == []


def test_url_of_the_front_end_gets_an_error_when_the_person_cancels(
    service: Service, browser: Browser, front_end: str
) -> None:
    browser.open(front_end)
    page = FrontEnd(browser, service)
    begin(page, browser, "Begin a login")
    browser.open(f"{URL(browser.url).with_query(None)}/abort")
    assert browser.url == f"{front_end}/signed-in?error=provider_denied"
