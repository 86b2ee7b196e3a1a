"""Test that secrets are removed from a text."""

from dataclasses import fields
from typing import Any

from service.doctor.redaction import redact, secrets_of
from service.settings import parsers
from service.settings.identity_providers import OidcProvider, client_text
from service.settings.settings import Settings

SETTINGS: dict[str, Any] = {
    "database_url": "postgresql://u:db%40word@h/x?sslpassword=of-the-key",
    "database_listen_url": "postgresql://u:past-the-pooler@h/x",
    "smtp_url": "smtp://u:mail-word@h",
    "jwt_secret": "signs-now",
    "jwt_previous_secrets": ("signed-before", "signed-long-before"),
    "encryption_keys": ("encrypts",),
    "google_client_id": "an-id",
    "google_client_secret": "of-google",
    "github_client_secret": "of-github",
    "oidc_providers": (OidcProvider("n", "https://i", "id", "of-another", "N"),),
    "base_url": "https://accounts.example.org",
}


def test_secrets_are_keys_client_secrets_and_the_passwords_in_urls() -> None:
    assert secrets_of(Settings(**SETTINGS)) == {
        *(
            "db%40word",
            "db@word",
            "of-the-key",
            "past-the-pooler",
            "mail-word",
            "signs-now",
            "signed-before",
        ),
        *("signed-long-before", "encrypts", "of-google", "of-github", "of-another"),
    }


def test_every_setting_that_is_parsed_as_a_secret_is_one() -> None:
    """A new setting must not be forgotten."""
    secret = "a text that only this test has, 32 bytes"
    for setting in fields(Settings):
        parse = setting.metadata["parse"]
        closure = [cell.cell_contents for cell in parse.__closure__ or ()]
        is_secret = parse is parsers.secret or (parse is client_text and "secret" in setting.name)
        if is_secret or parsers.secret in closure:
            given: Any = {setting.name: secret if is_secret else (secret,)}
            assert secrets_of(Settings(**given)) == {secret}, setting.name


def test_redact_replaces_every_secret_and_the_longer_one_first() -> None:
    text = "signed-long-before, signed, db@word and db%40word"
    assert redact(text, {"signed", "signed-long-before", "db@word", "db%40word"}) == (
        "***, ***, *** and ***"
    )
