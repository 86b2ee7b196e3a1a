"""The pages on a phone and on a desk, light and dark, and with a screen reader."""

from collections.abc import Callable

import pytest

from tests.browser.browser import Browser
from tests.browser.service import Service

VERIFY = "/api/auth/verify-email"
LONGEST_NAME = "m" * 50
EXPIRE = "update one_time_tokens set expires_at = now() where email = %s returning expires_at"


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


PAGES: dict[str, Callable[[Service, Browser], None]] = {
    "Conduit Accounts": open_home,
    "Confirm your email": open_verification,
    "Email confirmed": verify,
    "Account deleted": decline,
    "This link is not complete": open_incomplete_link,
    "This link is not valid": open_unknown_link,
    "This link has expired": open_expired_link,
}
"""The pages by their headings, and how to open them."""


@pytest.mark.parametrize("heading", PAGES)
def test_page_is_accessible_and_fits_a_phone_and_a_desk(
    service: Service, browser: Browser, heading: str
) -> None:
    PAGES[heading](service, browser)
    assert browser.heading == heading
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
