"""The providers that are set up, and their callback URLs."""

import json
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


def test_start_prints_the_callback_url_of_each_provider(tmp_path: Path) -> None:
    secret = "the secret of the client"
    given = {f"{name}_CLIENT_ID": "id" for name in ("GOOGLE", "GITHUB")}
    given |= {f"{name}_CLIENT_SECRET": secret for name in ("GOOGLE", "GITHUB")}
    given["OIDC_PROVIDERS"] = json.dumps(
        [
            {
                "name": "keycloak",
                "issuer": "https://id.test/realms/main",
                "client_id": "id",
                "client_secret": secret,
            }
        ]
    )
    with serve(tmp_path, **given) as process:
        process.wait_until_serving()
        for name in ("google", "github", "keycloak"):
            url = f"http://localhost:{process.port}/api/auth/oauth/{name}/callback"
            assert process.out.count(f"identity provider: name={name} callback_url={url}") == 1
        assert secret not in process.out + process.err
