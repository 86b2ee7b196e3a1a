"""The pages on a phone and on a desk, light and dark, and with a screen reader."""

from collections.abc import Callable

import pytest

from tests.browser.browser import Browser
from tests.browser.service import NEW_PASSWORD, TOO_LONG_PASSWORD, Service

VERIFY = "/api/auth/verify-email"
LONGEST_NAME = "m" * 50
EXPIRE = (
    "update one_time_tokens set expires_at = now() - interval '1 minute'"
    " where email = %s returning expires_at"
)


def open_home(service: Service, browser: Browser) -> None:
    browser.open(service.url("/"))


def open_verification(service: Service, browser: Browser) -> None:
    browser.open(service.register(LONGEST_NAME))


def verify(service: Service, browser: Browser) -> None:
    browser.open(service.register("vera"))
    browser.press("Confirm my email", opens="Email confirmed")


def decline(service: Service, browser: Browser) -> None:
    browser.open(service.register("dirk"))
    browser.press("I did not register: delete the account", opens="Account deleted")


def open_incomplete_link(service: Service, browser: Browser) -> None:
    browser.open(service.url(VERIFY))


def open_unknown_link(service: Service, browser: Browser) -> None:
    browser.open(service.url(f"{VERIFY}?token={'A' * 43}"))


def open_expired_link(service: Service, browser: Browser) -> None:
    link = service.register("erna")
    assert service.fetch(EXPIRE, "erna@example.test")
    browser.open(link)


def open_reset(service: Service, browser: Browser) -> None:
    service.register("rita")
    browser.open(service.forget_password("rita"))


def reject_password(service: Service, browser: Browser) -> None:
    service.register("petra")
    browser.open(service.forget_password("petra"))
    browser.fill("New password", TOO_LONG_PASSWORD)
    browser.press("Change my password", opens="Choose a new password")


def open_email_change(service: Service, browser: Browser) -> None:
    browser.open(service.change_email("nils", f"new-{'n' * 45}"))


def change_email(service: Service, browser: Browser) -> None:
    browser.open(service.change_email("nina", "new-nina"))
    browser.press("Confirm my new email", opens="Email changed")


def open_unlock(service: Service, browser: Browser) -> None:
    browser.open(service.lock_login("ute"))


def unlock(service: Service, browser: Browser) -> None:
    browser.open(service.lock_login("udo"))
    browser.press("Unlock the login", opens="Login unlocked")


def open_report(service: Service, browser: Browser) -> None:
    browser.open(service.change_password("ria", NEW_PASSWORD)[1])


def report(service: Service, browser: Browser) -> None:
    browser.open(service.change_password("rolf", NEW_PASSWORD)[1])
    browser.press("This was not me: secure the account", opens="Your account is safe again")


PAGES: dict[Callable[[Service, Browser], None], str] = {
    open_home: "Conduit Accounts",
    open_verification: "Confirm your email",
    verify: "Email confirmed",
    decline: "Account deleted",
    open_incomplete_link: "This link is not complete",
    open_unknown_link: "This link is not valid",
    open_expired_link: "This link has expired",
    open_reset: "Choose a new password",
    reject_password: "Choose a new password",
    open_email_change: "Confirm your new email",
    change_email: "Email changed",
    open_unlock: "Unlock the login",
    unlock: "Login unlocked",
    open_report: "This was not me",
    report: "Your account is safe again",
}
"""How to open each page, and its heading."""


@pytest.mark.parametrize("open_page", PAGES, ids=lambda open_page: open_page.__name__)
def test_page_is_accessible_and_fits_a_phone_and_a_desk(
    service: Service, browser: Browser, open_page: Callable[[Service, Browser], None]
) -> None:
    open_page(service, browser)
    assert browser.heading == PAGES[open_page]
    for width in (320, 1280):
        for scheme in ("light", "dark"):
            browser.show(width=width, scheme=scheme)
            assert not browser.is_scrolled_sideways(), (width, scheme)
            assert browser.accessibility_errors() == [], (width, scheme)


def test_docs_page_loads_under_its_policy(service: Service, browser: Browser) -> None:
    browser.open(service.url("/docs"))
    browser.wait_for(".opblock")
    assert "Conduit" in browser.text
    assert browser.console() == []
