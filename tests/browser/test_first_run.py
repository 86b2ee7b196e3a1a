"""One account from its registration to a theft, with nothing but what ``make run`` starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from tests.browser.browser import Browser
from tests.browser.service import NEW_PASSWORD, printed_links
from tests.processes import RUN, Process, eventually, serve

OLD, NEW = "ada@example.test", "ada-at-work@example.test"
FIRST_PASSWORD, LAST_PASSWORD = "analytical engine", "difference engine"


class Person:
    """A person with a terminal: they send requests, and read the mails that the service prints."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def link(self, page: str, email: str, *, subject: str, number: int = 1) -> str:
        """Return the link to ``page`` in the mail ``number`` with this subject to ``email``."""

        def find() -> list[str]:
            return printed_links(self._process.out, page, email, subject)[number - 1 :]

        return eventually(find, f"{subject!r} to {email}")[0]

    def register(self) -> str:
        """Register and return the access token."""
        user = {"username": "ada", "email": OLD, "password": FIRST_PASSWORD}
        return self._open_session("/api/users", user)

    def log_in(self, email: str, password: str) -> str:
        """Log in and return the access token."""
        return self._open_session("/api/users/login", {"email": email, "password": password})

    def is_refused(self, email: str, password: str) -> bool:
        """Return whether a login gets 401."""
        user = {"email": email, "password": password}
        return self._request("POST", "/api/users/login", {"user": user})[0] == 401

    def forget_password(self, email: str) -> None:
        """Ask for a link that resets the password."""
        assert self._request("POST", "/api/auth/forgot-password", {"email": email})[0] == 200

    def change_email(self, token: str, email: str) -> None:
        """Ask for a change of the email to ``email``."""
        status, body = self._request("PUT", "/api/user", {"user": {"email": email}}, token)
        assert status == 200, body

    def email(self, token: str) -> str | None:
        """Return the email of the user of ``token``, or ``None`` if the token gets 401."""
        status, body = self._request("GET", "/api/user", token=token)
        return body["user"]["email"] if status == 200 else None

    def is_verified(self, token: str) -> bool:
        """Return whether the email is verified: then no other mail is sent."""
        _, body = self._request("POST", "/api/auth/verify-email/resend", token=token)
        return bool(body["message"] == "Your email is already confirmed.")

    def events(self, token: str) -> list[str]:
        """Return the kinds of the events in the security log, the oldest first."""
        _, body = self._request("GET", "/api/user/events", token=token)
        return [event["kind"] for event in reversed(body["events"])]

    def _open_session(self, path: str, user: dict[str, str]) -> str:
        status, body = self._request("POST", path, {"user": user})
        assert status == 200, body
        return str(body["user"]["token"])

    def _request(
        self, method: str, path: str, body: Any = None, token: str | None = None
    ) -> tuple[int, Any]:
        return self._process.request(method, path, body, token)


@pytest.fixture
def person(chromium: Chrome, tmp_path: Path) -> Iterator[Person]:
    """Start the service as ``make run`` does, in a folder without data and settings."""
    with serve(tmp_path, command=RUN) as process:
        yield Person(process.wait_until_serving())


def test_person_gets_a_stolen_account_back_with_nothing_but_the_printed_links(
    person: Person, browser: Browser
) -> None:
    token = person.register()
    assert not person.is_verified(token)
    browser.open(person.link("verify-email", OLD, subject="Confirm your email"))
    browser.press("Confirm my email", opens="Email confirmed")
    assert person.is_verified(token)

    person.forget_password(OLD)
    browser.open(person.link("reset-password", OLD, subject="Choose a new password"))
    browser.fill("New password", NEW_PASSWORD)
    browser.press("Change my password", opens="Password changed")
    assert person.email(token) is None
    assert person.is_refused(OLD, FIRST_PASSWORD)
    token = person.log_in(OLD, NEW_PASSWORD)

    person.change_email(token, NEW)
    assert person.email(token) == OLD
    browser.open(person.link("confirm-email-change", NEW, subject="Confirm your new email"))
    assert person.email(token) == OLD
    browser.press("Confirm my new email", opens="Email changed")
    assert person.email(token) == NEW
    assert person.is_refused(OLD, NEW_PASSWORD)
    other = person.log_in(NEW, NEW_PASSWORD)

    browser.open(person.link("report", OLD, subject="Your email was changed"))
    assert "The email of the account is restored to this one." in browser.text
    assert person.email(token) == NEW
    browser.press("This was not me: secure the account", opens="Your account is safe again")
    assert [person.email(token), person.email(other)] == [None, None]
    assert person.is_refused(NEW, NEW_PASSWORD)
    assert person.is_refused(OLD, NEW_PASSWORD)

    browser.open(person.link("reset-password", OLD, subject="Choose a new password", number=2))
    browser.fill("New password", LAST_PASSWORD)
    browser.press("Change my password", opens="Password changed")
    assert person.is_refused(NEW, LAST_PASSWORD)
    token = person.log_in(OLD, LAST_PASSWORD)
    assert person.email(token) == OLD
    assert person.is_verified(token)
    assert person.events(token) == [
        "registered",
        "email_verified",
        "password_reset_requested",
        "password_reset",
        "session_ended",
        "sign_in_failed",
        "signed_in",
        "email_change_requested",
        "email_changed",
        "signed_in",
        "reported",
        "email_restored",
        *["session_ended"] * 2,
        "sign_in_failed",
        "password_reset",
        "signed_in",
    ]
    assert browser.console() == []
