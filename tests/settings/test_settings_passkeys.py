"""Test the settings of passkeys."""

import pytest

from tests.settings.test_settings import errors, load

NO_PAGE = (
    "PASSKEY_RP_ID must be the domain of FRONTEND_URL, BASE_URL or an origin in CORS_ORIGINS, or a "
    "domain above it."
)


@pytest.mark.parametrize(
    ("settings", "rp_id"),
    [
        ({}, "localhost"),
        ({"BASE_URL": "https://accounts.example.org:8443"}, "accounts.example.org"),
        ({"BASE_URL": "https://a.org", "FRONTEND_URL": "https://App.b.org/x"}, "app.b.org"),
        ({"BASE_URL": "https://a.b.org", "PASSKEY_RP_ID": "B.org"}, "b.org"),
    ],
)
def test_domain_of_passkeys_follows_the_urls(settings: dict[str, str], rp_id: str) -> None:
    assert load(**settings).relying_party_id == rp_id


@pytest.mark.parametrize(
    "value",
    ["https://example.org", "example.org:443", "example.org/", ".example.org", "192.0.2.1", "::1"],
)
def test_domain_of_passkeys_rejects_other_text(value: str) -> None:
    assert errors(PASSKEY_RP_ID=value) == ["PASSKEY_RP_ID must be a domain such as example.org."]


def test_domain_of_passkeys_must_have_a_page() -> None:
    urls = {"BASE_URL": "https://api.example.org"}
    assert errors(PASSKEY_RP_ID="example.com", **urls) == [NO_PAGE]
    assert errors(PASSKEY_RP_ID="app.example.org", **urls) == [NO_PAGE]
    assert errors(PASSKEY_RP_ID="ample.org", **urls) == [NO_PAGE]
    app = {"CORS_ORIGINS": "https://app.example.org", **urls}
    assert load(PASSKEY_RP_ID="app.example.org", **app).passkey_rp_id == "app.example.org"
    assert load(PASSKEY_RP_ID="example.org", **urls).passkey_rp_id == "example.org"
