"""The pages on a phone and on a desk, light and dark, and with a screen reader."""

import pytest

from service.accounts.link_pages import languages
from tests.accounts.link_page_variants import VARIANTS, render
from tests.browser.browser import Browser
from tests.browser.service import Service

LONGEST_EMAIL = f"{'m' * 64}@{'d' * 63}.{'d' * 63}.example.test"


def assert_fits_and_is_accessible(browser: Browser) -> None:
    """Assert that the page is readable at each width, in each colour scheme."""
    for width in (320, 1280):
        for scheme in ("light", "dark"):
            browser.show(width=width, scheme=scheme)
            assert not browser.is_scrolled_sideways(), (width, scheme)
            assert browser.accessibility_errors() == [], (width, scheme)


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize("variant", VARIANTS)
def test_page_of_a_link_is_accessible_and_fits_a_phone_and_a_desk(
    service: Service, browser: Browser, language: str, variant: str
) -> None:
    name, values = VARIANTS[variant]
    # The style sheet comes from the service, and its policy for pages is in force.
    browser.open(service.url("/api/auth/verify-email"))
    assert "400" in browser.console()[0]
    browser.replace_page(render(language, name, {**values, "email": LONGEST_EMAIL}))
    assert_fits_and_is_accessible(browser)
    assert browser.console() == []


def test_home_page_is_accessible_and_fits_a_phone_and_a_desk(
    service: Service, browser: Browser
) -> None:
    browser.open(service.url("/"))
    assert browser.heading == "Conduit Accounts"
    assert_fits_and_is_accessible(browser)


def test_docs_page_loads_under_its_policy(service: Service, browser: Browser) -> None:
    browser.open(service.url("/docs"))
    browser.wait_for(".opblock")
    assert "Conduit" in browser.text
    assert browser.console() == []
