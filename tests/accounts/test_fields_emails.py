"""The emails that are accepted and rejected, and the form in which they are stored."""

import contextlib
import random
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
import voluptuous as vol

from service.accounts import fields
from tests.conftest import Client, Dialect, Response
from tests.responses import assert_invalid

TOP_LEVEL = ("com", "test", "local", "onion", "arpa", "localhost", "xn", "zz", "a", "A", "1")
NO_EMAIL = "is not a valid email address"


async def register(client: Client, email: str) -> Response:
    user = {"username": "jake", "email": email, "password": "jakejake"}
    return await client.post("/api/users", {"user": user})


EMAILS = {
    "the specification's own": ("jake@jake.jake", "jake@jake.jake"),
    "a test domain": ("a@example.test", "a@example.test"),
    "an intranet's domain": ("dev@corp.local", "dev@corp.local"),
    "a host without a dot": ("root@localhost", "root@localhost"),
    "a quoted local part": ('"quo ted"@example.com', '"quo ted"@example.com'),
    "needless quotes": ('"quoted"@example.com', "quoted@example.com"),
    "a tag": ("jake+tag@example.com", "jake+tag@example.com"),
    "an apostrophe": ("o'brien@example.com", "o'brien@example.com"),
    "SQL wildcards": ("%_%@example.com", "%_%@example.com"),
    "an international local part": ("用户@example.com", "用户@example.com"),
    "a decomposed local part": ("jose\u0301@example.com", "jos\u00e9@example.com"),
    "an international domain": ("jake@bücher.example", "jake@bücher.example"),
    "an international domain in ASCII": ("jake@xn--bcher-kva.example", "jake@bücher.example"),
    "a domain in upper case": ("Jake@EXAMPLE.Com", "Jake@example.com"),
    "a fullwidth at-sign": ("jake＠example.com", "jake@example.com"),
    "a small at-sign": ("jake﹫example.com", "jake@example.com"),
    "a fullwidth local part": ("ｊａｋｅ．ｊｒ@example.com", "jake.jr@example.com"),
    "a ligature": ("ﬁona@example.com", "fiona@example.com"),
    "a soft hyphen": ("ja\u00adke@ex\u00adample.com", "jake@example.com"),
    "a zero-width space": ("ja\u200bke@ex\u200bample.com", "jake@example.com"),
    "a word joiner": ("ja\u2060ke@ex\u2060ample.com", "jake@example.com"),
    "a byte-order mark": ("\ufeffjake@example.com\ufeff", "jake@example.com"),
    "a joiner in the local part": ("ja\u200dke@example.com", "jake@example.com"),
    "a variation selector": ("jake\ufe0f@example.com", "jake@example.com"),
    "a filler": ("ja\u3164ke@example.com", "jake@example.com"),
    "an ideographic full stop": ("jake@example。com", "jake@example.com"),
    "a local part of 64 bytes": ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
    "254 characters": (
        "a" * 64 + "@" + ".".join(["b" * 62] * 3),
        "a" * 64 + "@" + ".".join(["b" * 62] * 3),
    ),
}


@pytest.mark.parametrize(("given", "kept"), EMAILS.values(), ids=EMAILS)
async def test_email_accepts_valid_emails_and_each_spelling_logs_in(
    client: Client, given: str, kept: str
) -> None:
    assert len(given) <= 254
    response = await register(client, given)
    assert (response.status, response.body["user"]["email"]) == (200, kept)
    for email in (given, kept, given.upper()):
        credentials = {"email": email, "password": "jakejake"}
        assert (await client.post("/api/users/login", {"user": credentials})).status == 200


BAD_EMAILS = {
    "no at-sign": "jake.example.com",
    "two at-signs": "jake@home@example.com",
    "no local part": "@example.com",
    "no domain": "jake@",
    "a local part of 65 bytes": "a" * 65 + "@example.com",
    "a local part of 66 bytes in 33 characters": "é" * 33 + "@example.com",
    "a leading space": " jake@example.com",
    "a trailing space": "jake@example.com ",
    "an inner space": "ja ke@example.com",
    "a newline": "jake@example.com\n",
    "a mail header": "jake@example.com\r\nBcc: bob@example.com",
    "a display name": "Jake <jake@example.com>",
    "two emails": "jake@example.com,bob@example.com",
    "two dots": "ja..ke@example.com",
    "a leading dot": ".jake@example.com",
    "a domain with an underscore": "jake@exam_ple.com",
    "a domain with a leading hyphen": "jake@-example.com",
    "a bidirectional override": "ja\u202eke@example.com",
    "a control character": "ja\x07ke@example.com",
    "an at-sign of each width": "jake＠home@example.com",
    "two fullwidth at-signs": "jake＠home＠example.com",
    "nothing visible before the at-sign": "\u200b\u00ad\u3164@example.com",
    "nothing visible after the at-sign": "jake@\u200b\u00ad",
    "a joiner in the domain": "jake@exam\u200dple.com",
    "a fullwidth comma": "jake@example.com，bob@example.com",
    "fullwidth angle brackets": "Jake ＜jake@example.com＞",
    "a fullwidth comma before the at-sign": "jake，bob@example.com",
    "a small full stop at the start": "﹒jake@example.com",
    "an ideographic space": "ja\u3000ke@example.com",
    "a local part that becomes longer than 64 bytes": "\ufdfa" * 5 + "@example.com",
}


@pytest.mark.parametrize("email", BAD_EMAILS.values(), ids=BAD_EMAILS)
async def test_email_rejects_invalid_emails(
    dialect_client: Client, dialect: Dialect, email: str
) -> None:
    assert_invalid(await register(dialect_client, email), dialect.invalid, email=NO_EMAIL)


def test_email_is_stored_in_its_normal_form() -> None:
    """A mail goes to the stored email, so no other email may have its key, apart from the case."""
    texts = (f"a{chr(point)}b" for point in range(0x110000) if not 0xD800 <= point < 0xE000)
    kept = []
    for text in (text for text in texts if fields.uniqueness_key(text) != text):
        with contextlib.suppress(vol.Invalid):
            kept.append(fields.email(f"{text}@example.com"))
    assert len(kept) > 1000
    for email in kept:
        local_part = email.rpartition("@")[0]
        folded = unicodedata.normalize("NFKC", local_part.casefold())
        assert (fields.email(email), fields.uniqueness_key(local_part)) == (email, folded)


async def test_email_rejects_255_characters(dialect_client: Client, dialect: Dialect) -> None:
    email = "a" * 64 + "@" + ".".join(["b" * 62] * 2 + ["c" * 64])
    assert len(email) == 255
    response = await register(dialect_client, email)
    assert_invalid(response, dialect.invalid, email="is too long (maximum is 254 characters)")


async def test_login_does_not_parse_email_that_is_too_long(
    client: Client, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Parsing a megabyte takes a second, and would block every other request.
    parsed = []
    parse: Callable[..., Any] = vars(fields)["validate_email"]

    def note(given: str, **options: Any) -> Any:
        parsed.append(len(given))
        return parse(given, **options)

    monkeypatch.setattr(fields, "validate_email", note)
    for email in ("a" * 254, "a" * 255, "a." * 400_000 + "@example.test"):
        credentials = {"email": email, "password": "wrong"}
        assert (await client.post("/api/users/login", {"user": credentials})).status == 400
    assert parsed == [254]


def test_email_of_the_plain_form_is_accepted_as_it_is_only_if_the_parser_does_the_same() -> None:
    drawn, plain = random.Random(1), 0

    def text(alphabet: str, longest: int) -> str:
        length = drawn.choice([1, 2, 5, longest, longest + 1])
        return "".join(drawn.choice(alphabet) for _ in range(length))

    for _ in range(2_000):
        labels = [text("abxn019-", 63) for _ in range(drawn.choice([1, 1, 2]))]
        email = f"{text('abzAZ019._+-', 64)}@{'.'.join(labels)}.{drawn.choice(TOP_LEVEL)}"
        if len(email) <= fields.MAX_EMAIL and fields._PLAIN_EMAIL.fullmatch(email):
            plain += 1
            assert fields._parsed_email(email) == email
    assert plain > 100
