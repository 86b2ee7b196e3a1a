"""Codes of authenticator apps, their time steps, and the encryption of their secrets."""

import xml.etree.ElementTree as ElementTree
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import pyotp
import pytest

import sql
from service.accounts.encryption import Encryption
from service.accounts.two_factor import totp
from service.database.pool import DATABASE
from tests.conftest import Client

RFC_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # "12345678901234567890" in base32.
OLD, NEW = "old-key-of-at-least-32-random-bytes", "new-key-of-at-least-32-random-bytes"


@pytest.mark.parametrize(
    ("time", "code"), [(59, "287082"), (1111111109, "081804"), (20000000000, "353130")]
)
def test_codes_are_those_of_rfc_6238(monkeypatch: pytest.MonkeyPatch, time: int, code: str) -> None:
    """Appendix B of the RFC has codes of eight digits. Six digits are their end."""
    monkeypatch.setattr(totp, "clock", lambda: float(time))
    assert totp.matching_step(RFC_SECRET, code) == time // 30


@pytest.mark.parametrize(
    ("drift", "is_accepted"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_one_step_of_drift_is_accepted_each_way(
    monkeypatch: pytest.MonkeyPatch, drift: int, is_accepted: bool
) -> None:
    code = pyotp.TOTP(RFC_SECRET).generate_otp(100 + drift)
    for time in (3000.0, 3029.999):
        monkeypatch.setattr(totp, "clock", lambda time=time: time)
        expected = 100 + drift if is_accepted else None
        assert totp.matching_step(RFC_SECRET, code) == expected


@pytest.mark.parametrize(
    "code",
    ["", "28708", "2870820", "000287082", " 287082", "287082\n", "287 082", "28708２", "٢٨٧٠٨٢"],
)
def test_code_is_exactly_six_ascii_digits(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(totp, "clock", lambda: 59.0)
    assert totp.matching_step(RFC_SECRET, code) is None


def test_secrets_have_160_bits_and_differ() -> None:
    secrets = {totp.new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(secret) * 5 for secret in secrets} == {160}


def test_uri_names_the_account_and_the_issuer() -> None:
    uri = totp.provisioning_uri(RFC_SECRET, "a&b?@example.test", "accounts.example.org")
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert unquote(parts.path) == "/accounts.example.org:a&b?@example.test"
    assert parse_qs(parts.query) == {"secret": [RFC_SECRET], "issuer": ["accounts.example.org"]}


def test_uri_has_one_colon_which_ends_the_issuer() -> None:
    uri = totp.provisioning_uri(RFC_SECRET, '"a:b"@example.test', "localhost:3000")
    path = unquote(urlsplit(uri).path)
    assert path == '/localhost 3000:"a b"@example.test'
    assert parse_qs(urlsplit(uri).query)["issuer"] == ["localhost 3000"]


def test_qr_code_is_an_image_without_script_style_and_links() -> None:
    image = ElementTree.fromstring(totp.qr_code("otpauth://totp/x?secret=x"))  # noqa: S314
    space = "{http://www.w3.org/2000/svg}"
    assert image.tag == f"{space}svg"
    assert {element.tag for element in image.iter()} == {f"{space}svg", f"{space}path", f"{space}g"}
    attributes = {name for element in image.iter() for name in element.attrib}
    assert attributes <= {"width", "height", "transform", "stroke", "fill", "d"}


async def insert_secrets(db: asyncpg.Connection, encryption: Encryption, count: int) -> None:
    """Insert users with a secret each: ``secret 0``, ``secret 1`` and so on."""
    for number in range(count):
        name = f"user{number}"
        user_id = await db.fetchval(
            "insert into users (username, username_key, email, email_key)"
            " values ($1, $1, $1, $1) returning id",
            name,
        )
        await db.execute(
            "insert into totp_secrets (user_id, secret) values ($1, $2)",
            user_id,
            totp.encrypt(encryption, f"secret {number}", user_id),
        )


async def secrets_of(db: asyncpg.Connection, encryption: Encryption) -> set[str]:
    rows = await db.fetch("select user_id, secret from totp_secrets")
    return {totp.decrypt(encryption, row["secret"], row["user_id"]) for row in rows}


async def test_reencryption_replaces_every_ciphertext_in_batches(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totp, "BATCH", 2)
    await insert_secrets(db, Encryption([OLD]), 5)
    reports: list[tuple[int, int]] = []

    def report(*counts: int) -> None:
        reports.append((counts[0], counts[1]))

    database = client.http.app[DATABASE]
    assert await totp.reencrypt(database, Encryption([NEW, OLD]), report) == (5, 0)
    assert reports == [(2, 0), (4, 0), (5, 0)]
    assert await secrets_of(db, Encryption([NEW])) == {f"secret {number}" for number in range(5)}
    assert await totp.reencrypt(database, Encryption([NEW, OLD]), report) == (0, 0)


async def test_reencryption_keeps_what_it_cannot_decrypt(
    client: Client, db: asyncpg.Connection
) -> None:
    await insert_secrets(db, Encryption([OLD]), 1)
    database = client.http.app[DATABASE]
    assert await totp.reencrypt(database, Encryption([NEW]), lambda *_: None) == (0, 1)
    assert await secrets_of(db, Encryption([OLD])) == {"secret 0"}


async def test_reencryption_keeps_a_secret_that_the_service_has_replaced_meanwhile(
    client: Client, db: asyncpg.Connection
) -> None:
    await insert_secrets(db, Encryption([OLD]), 1)
    row = await db.fetchrow("select id, secret from totp_secrets")
    replaced = await sql.totp.replace_ciphertext(
        client.http.app[DATABASE], id=row["id"], old_secret=b"earlier", new_secret=b"later"
    )
    assert replaced is None
    assert await db.fetchval("select secret from totp_secrets") == row["secret"]
