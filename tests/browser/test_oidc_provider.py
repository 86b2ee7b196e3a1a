"""Test the forms of the OpenID provider that other tests use, without the service."""

from urllib.parse import urlencode

from yarl import URL

from tests.browser.browser import Browser
from tests.browser.provider_login import log_in_at_provider
from tests.oidc_provider.process import OIDCProvider


def open_provider(browser: Browser, provider: OIDCProvider, callback: str, **more: str) -> None:
    """Begin a flow with PKCE as a client with the URL ``callback``."""
    provider.add_client(callback)
    query = {
        "client_id": "conduit",
        "redirect_uri": callback,
        "response_type": "code",
        "scope": "openid email profile",
        "state": "the state",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
        **more,
    }
    browser.open(f"{provider.issuer}/auth?{urlencode(query)}")


def test_login_in_the_browser_ends_at_the_client_with_a_code(
    browser: Browser, oidc_provider: OIDCProvider, front_end: str
) -> None:
    open_provider(browser, oidc_provider, f"{front_end}/callback")
    log_in_at_provider(browser, "alice")
    url = URL(browser.url)
    assert (str(url.origin()), url.path) == (front_end, "/callback")
    assert url.query.keys() == {"code", "state", "iss"}
    assert browser.console(front_end) == []


def test_new_login_in_the_browser_asks_for_no_consent_again(
    browser: Browser, oidc_provider: OIDCProvider, front_end: str
) -> None:
    open_provider(browser, oidc_provider, f"{front_end}/callback")
    log_in_at_provider(browser, "alice")
    callback = f"{front_end}/callback"
    open_provider(browser, oidc_provider, callback, prompt="login", max_age="0")
    log_in_at_provider(browser, "alice")
    assert "code" in URL(browser.url).query
