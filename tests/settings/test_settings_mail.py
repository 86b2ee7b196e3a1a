"""Test the settings of mails and of the links in them."""

from pathlib import Path

import pytest

from tests.settings.test_settings import errors, load

SENDER = {"MAIL_FROM": "us@example.org", "BASE_URL": "https://example.org"}


@pytest.mark.parametrize(
    "value",
    [
        "smtp://localhost",
        "smtp://127.0.0.1:1025",
        "smtps://user%40example.org:p%2Fw@mail.example.org:465",
        "smtp://user:password@[::1]:587/",
    ],
)
def test_smtp_url_accepts_urls_of_mail_servers(value: str) -> None:
    assert load(SMTP_URL=value, **SENDER).smtp_url == value


@pytest.mark.parametrize(
    "value",
    [
        "localhost",
        "http://localhost",
        "smtp://",
        "smtp://:25",
        "smtp://x:99999",
        "smtp://x:0",
        "smtp://x:y",
        "smtp://x/path",
        "smtp://user@x",
        "smtp://[::1",
    ],
)
def test_smtp_url_rejects_other_urls(value: str) -> None:
    (sentence,) = errors(SMTP_URL=value, **SENDER)
    assert sentence.startswith("SMTP_URL must look like smtp://user:password@host:587")


@pytest.mark.parametrize(
    "value",
    ["us@example.org", "Us <us@example.org>", '"Us, all" <us@example.org>', "Üns <us@x.org>"],
)
def test_mail_from_accepts_emails_with_and_without_a_name(value: str) -> None:
    assert load(MAIL_FROM=value).mail_from == value


@pytest.mark.parametrize(
    "value",
    ["us", "us@", "@x", "Us", "a@b.c, d@e.f", "us@example.org\nBcc: x@y.z", "ü@x.org", "<>"],
)
def test_mail_from_rejects_other_text(value: str) -> None:
    assert errors(MAIL_FROM=value) == ["MAIL_FROM must look like Accounts <accounts@example.org>."]


def test_mail_server_requires_a_sender_and_a_base_url(tmp_path: Path) -> None:
    no_sender = (
        "MAIL_FROM is missing: SMTP_URL needs a sender, such as Accounts <accounts@example.org>."
    )
    no_base_url = (
        "BASE_URL is missing: the links in mails need the URL of this service, "
        "such as https://accounts.example.org."
    )
    assert errors(SMTP_URL="smtp://localhost") == [no_sender, no_base_url]
    missing = tmp_path / "missing"
    assert errors(SMTP_URL="smtp://localhost", **{**SENDER, "MAIL_FROM_FILE": str(missing)}) == [
        f"MAIL_FROM_FILE names {missing}, which cannot be read: No such file or directory."
    ]


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://accounts.example.org", "https://accounts.example.org"),
        ("HTTPS://Accounts.Example.ORG/", "https://accounts.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_public_url_is_the_base_url(value: str, url: str) -> None:
    assert load(BASE_URL=value).public_url == url


def test_public_url_is_the_local_url_without_base_url() -> None:
    assert load(PORT="8080").public_url == "http://localhost:8080"


@pytest.mark.parametrize(
    "value",
    [
        "accounts.example.org",
        "ftp://example.org",
        "https://",
        "https:///",
        "https://example.org/accounts",
        "https://example.org//",
        "https://example.org?x=1",
        "https://example.org#x",
        "https://user:password@example.org",
        "https://example.org@evil.example",
        "https://example.org:0",
        "https://example.org:99999",
        "https://example.org:",
        "https://exa mple.org",
        "https://example.org\nBcc: x@y.z",
        "https://bücher.example",
        "https://[::1",
        "https://[::x]",
        "https://-",
    ],
)
def test_base_url_rejects_other_text(value: str) -> None:
    sentence = "BASE_URL must look like https://accounts.example.org, without a path."
    assert errors(BASE_URL=value) == [sentence]


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://example.org", "https://example.org"),
        ("https://example.org/", "https://example.org"),
        ("https://example.org/my/account/", "https://example.org/my/account"),
        ("http://localhost:5173", "http://localhost:5173"),
    ],
)
def test_frontend_url_may_have_a_path(value: str, url: str) -> None:
    assert load(FRONTEND_URL=value).frontend_url == url


@pytest.mark.parametrize(
    "value",
    [
        "example.org",
        "javascript:alert(1)",
        "https://",
        "https://example.org?x=1",
        "https://example.org?",
        "https://example.org/#/account",
        "https://user@example.org",
        "https://example.org//evil.example",
        "https://exam ple.org",
        "https://example.org/a b",
        "https://[::1",
    ],
)
def test_frontend_url_rejects_other_text(value: str) -> None:
    sentence = "FRONTEND_URL must look like https://example.org, with or without a path."
    assert errors(FRONTEND_URL=value) == [sentence]
