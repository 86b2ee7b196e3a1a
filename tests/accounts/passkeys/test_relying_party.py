"""The domain of the passkeys, and the pages that may use them."""

from typing import Any

import pytest

from service.accounts.passkeys.relying_party import RelyingParty
from service.settings.settings import Settings

APP, API = "https://app.example.org", "https://api.example.org"


@pytest.mark.parametrize(
    ("settings", "rp_id", "accepted"),
    [
        ({}, "localhost", "http://localhost:3000"),
        ({"port": 8080}, "localhost", "http://localhost:8080"),
        ({"base_url": "https://example.org"}, "example.org", "https://example.org"),
        ({"base_url": "https://example.org:443"}, "example.org", "https://example.org"),
        ({"base_url": API, "frontend_url": f"{APP}/account"}, "app.example.org", APP),
        ({"base_url": API, "frontend_url": "https://App.Example.org"}, "app.example.org", APP),
        (
            {"base_url": API, "frontend_url": APP, "passkey_rp_id": "example.org"},
            "example.org",
            APP,
        ),
        (
            {"base_url": API, "frontend_url": APP, "passkey_rp_id": "example.org"},
            "example.org",
            API,
        ),
        (
            {"base_url": API, "cors_origins": (APP,), "passkey_rp_id": "app.example.org"},
            "app.example.org",
            APP,
        ),
        ({"cors_origins": ("*",)}, "localhost", "http://localhost:5173"),
    ],
)
def test_relying_party_follows_the_urls(
    settings: dict[str, Any], rp_id: str, accepted: str
) -> None:
    party = RelyingParty(Settings(**settings))
    assert party.id == rp_id
    assert party.accepts(accepted)


REJECTED = {
    "another host": "https://elsewhere.example",
    "a subdomain that is not listed": "https://blog.app.example.org",
    "the domain above": "https://example.org",
    "a sibling, although it is the service": API,
    "another scheme": "http://app.example.org",
    "another port": "https://app.example.org:8443",
    "a host that ends alike": "https://evil-app.example.org",
    "a path": f"{APP}/",
    "a user": "https://app.example.org@elsewhere.example",
    "upper case": "https://APP.example.org",
    "a malformed host": "https://[app.example.org",
    "an app": "android:apk-key-hash:x",
    "null as text": "null",
    "nothing": "",
    "null": None,
    "a number": 7,
    "a list": [APP],
}


@pytest.mark.parametrize("origin", REJECTED.values(), ids=REJECTED)
def test_page_of_another_origin_is_rejected(origin: Any) -> None:
    settings = Settings(base_url=API, frontend_url=APP, cors_origins=("https://elsewhere.example",))
    assert not RelyingParty(settings).accepts(origin)


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "http://localhost.example:3000"])
def test_page_outside_the_domain_is_rejected_although_every_origin_is_allowed(origin: str) -> None:
    assert not RelyingParty(Settings(cors_origins=("*",))).accepts(origin)
