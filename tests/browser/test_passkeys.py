"""Passkeys in Chromium: a front-end of another origin runs the code of docs/two-factor.md."""

import pytest

from tests.browser.browser import Browser, ScriptError
from tests.browser.front_end import documented, open_front_end
from tests.browser.service import Service


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
    tokens = page.run(documented("Prove again who you are") + "return tokens;")
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
