"""The providers that are set up, and their callback URLs."""

from pathlib import Path

import pytest

from service.settings.identity_providers import OidcProvider
from service.settings.settings import Settings
from tests.conftest import SETTINGS, MakeClient
from tests.processes import serve

KEYCLOAK = OidcProvider("keycloak", "https://id.test/realms/main", "id", "secret", "Keycloak")
PAIRS = {
    "google_client_id": "id",
    "google_client_secret": "secret",
    "github_client_id": "id",
    "github_client_secret": "secret",
}


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        (None, "http://localhost:3000"),
        ("https://accounts.example.test", "https://accounts.example.test"),
    ],
)
def test_callback_url_begins_with_the_public_url(base_url: str | None, host: str) -> None:
    settings = Settings(base_url=base_url, oidc_providers=(KEYCLOAK,), **{**SETTINGS, **PAIRS})
    assert settings.callback_urls == {
        name: f"{host}/api/auth/oauth/{name}/callback" for name in ("keycloak", "google", "github")
    }


def test_no_provider_has_no_callback_url() -> None:
    assert Settings(**SETTINGS).callback_urls == {}


async def test_providers_are_listed_with_their_labels(make_client: MakeClient) -> None:
    client = await make_client(oidc_providers=(KEYCLOAK,), **PAIRS)
    listed = (await client.get("/api/auth/oauth")).body["providers"]
    assert {provider["name"]: provider["label"] for provider in listed} == {
        "keycloak": "Keycloak",
        "google": "Google",
        "github": "GitHub",
    }


def test_start_prints_the_callback_urls(tmp_path: Path) -> None:
    given = {"GOOGLE_CLIENT_ID": "id", "GOOGLE_CLIENT_SECRET": "the secret of the client"}
    with serve(tmp_path, **given) as process:
        process.wait_until_serving()
        url = f"http://localhost:{process.port}/api/auth/oauth/google/callback"
        assert f"identity provider: name=google callback_url={url}" in process.out
        assert "the secret of the client" not in process.out
