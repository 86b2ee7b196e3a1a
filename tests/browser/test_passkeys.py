"""Passkeys in Chromium: a front-end of another origin runs the code of docs/two-factor.md."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser.browser import Browser, ScriptError
from tests.browser.service import Service

PAGE = Path(__file__).parents[2] / "docs" / "two-factor.md"

CALL = """
    const call = async (method, path, body) => {
        const headers = {"Content-Type": "application/json"};
        if (token) headers.Authorization = `Token ${token}`;
        const response = await fetch(service + path, {method, headers, body: JSON.stringify(body)});
        const text = await response.text();
        const result = text && JSON.parse(text);
        if (!response.ok) throw new Error(result.code);
        return result;
    };
    const post = (path, body) => call("POST", path, body);
"""
"""The function ``post`` that the page mentions."""


def documented(subject: str) -> str:
    """Return the code below ``**subject.**`` in the page."""
    text = PAGE.read_text(encoding="utf-8").partition(f"**{subject}.**")[2]
    found = re.search(r"^```js\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the page shows no code for {subject!r}"
    return found[1]


class FrontEnd:
    """A front-end in a tab, and the access token that it has."""

    def __init__(self, browser: Browser, service: Service, token: str = "") -> None:
        self.token = token
        self._browser = browser
        self._service = service.url("")

    def run(self, script: str, **arguments: object) -> Any:
        """Run ``script`` with ``call`` and ``post``. Raise ``ScriptError``."""
        given = {"service": self._service, "token": self.token, **arguments}
        return self._browser.run(CALL + script, **given)

    def add_passkey(self) -> None:
        self.run(documented("Add a passkey"))

    def log_in(self) -> Any:
        """Log in with a passkey, and return the response."""
        return self.run(documented("Log in") + "return session;")

    def passkeys(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.run(
            "return (await call('GET', '/api/user/passkeys')).passkeys;"
        )
        return listed


def open_front_end(browser: Browser, service: Service, front_end: str, name: str) -> FrontEnd:
    """Open the front-end with a new account whose email is verified."""
    token = service.process.register(name)
    service.fetch(
        "update users set email_verified_at = now(), ever_verified = true where username = %s"
        " returning id",
        name,
    )
    browser.open(front_end)
    return FrontEnd(browser, service, token)


def test_passkey_is_added_and_logs_in(service: Service, browser: Browser, front_end: str) -> None:
    browser.add_authenticator()
    page = open_front_end(browser, service, front_end, "karla")
    page.add_passkey()
    (passkey,) = page.passkeys()
    assert (passkey["name"], passkey["last_used_at"]) == ("My laptop", None)
    page.token = ""
    session = page.log_in()
    assert session["user"]["username"] == "karla"
    page.token = session["user"]["token"]
    (passkey,) = page.passkeys()
    assert passkey["last_used_at"] is not None
    query = "select amr from sessions join users on users.id = user_id where username = %s"
    assert service.fetch(f"{query} order by sessions.created_at", "karla") == [
        (["pwd"],),
        (["pop", "mfa"],),
    ]
    # The counter of the authenticator is above that of the last login.
    assert page.log_in()["user"]["username"] == "karla"
    assert browser.console() == []


def test_passkey_is_renamed_and_removed(service: Service, browser: Browser, front_end: str) -> None:
    browser.add_authenticator()
    page = open_front_end(browser, service, front_end, "paula")
    page.add_passkey()
    (passkey,) = page.passkeys()
    page.run(
        "await call('PATCH', '/api/user/passkeys/' + id, {name: 'Old laptop'});", id=passkey["id"]
    )
    assert [each["name"] for each in page.passkeys()] == ["Old laptop"]
    page.run("await call('DELETE', '/api/user/passkeys/' + id);", id=passkey["id"])
    assert page.passkeys() == []
    # The authenticator still has it.
    with pytest.raises(ScriptError, match="passkey_unknown"):
        page.log_in()


def test_passkey_renews_the_proof(service: Service, browser: Browser, front_end: str) -> None:
    browser.add_authenticator()
    page = open_front_end(browser, service, front_end, "pia")
    page.add_passkey()
    login = documented("Log in")
    reauthentication = login.replace('/api/users/login/passkey"', '/api/auth/reauthenticate"')
    assert reauthentication != login
    tokens = page.run(reauthentication + "return session;")
    with pytest.raises(ScriptError, match="token_revoked"):
        page.passkeys()
    page.token = tokens["access_token"]
    assert len(page.passkeys()) == 1


def test_authenticator_adds_one_passkey_for_each_account(
    service: Service, browser: Browser, front_end: str
) -> None:
    browser.add_authenticator()
    page = open_front_end(browser, service, front_end, "pola")
    page.add_passkey()
    with pytest.raises(ScriptError, match="InvalidStateError"):
        page.add_passkey()
    open_front_end(browser, service, front_end, "polly").add_passkey()
    assert len(page.passkeys()) == 1


def test_authenticator_that_does_not_recognize_the_person_adds_no_passkey(
    service: Service, browser: Browser, front_end: str
) -> None:
    browser.add_authenticator(verifies_user=False)
    page = open_front_end(browser, service, front_end, "pete")
    with pytest.raises(ScriptError, match="NotAllowedError"):
        page.add_passkey()
    assert page.passkeys() == []
