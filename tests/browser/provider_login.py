"""The forms of the OpenID provider of the tests, filled in as a person does it."""

from tests.browser.browser import Browser


def log_in_at_provider(browser: Browser, name: str) -> None:
    """Log in as ``name`` at the form that the tab shows, and consent if the provider asks for it.

    Wait for the page that the provider redirects to.
    """
    browser.fill_placeholder("Enter any login", name)
    browser.fill_placeholder("and password", "any")
    browser.leave("Sign-in")
    if browser.buttons() == ["Continue"]:
        browser.leave("Continue")
