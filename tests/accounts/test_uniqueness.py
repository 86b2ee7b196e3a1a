import asyncio
import threading
import unicodedata
from collections import Counter
from typing import Any

import asyncpg
import idna
import pytest

from service.accounts.fields import uniqueness_key
from tests.accounts.conftest import hasher_of, hold_workers, jobs_of, until
from tests.conftest import Client, Dialect, MakeClient
from tests.responses import assert_error, assert_invalid

TAKEN = ["has already been taken"]
MANY = 100


def account(username: str, email: str) -> dict[str, Any]:
    return {"user": {"username": username, "email": email, "password": "long enough"}}


@pytest.mark.parametrize(
    ("username", "email", "taken"),
    [
        ("jake", "other@example.test", ["username"]),
        ("other", "jake@example.test", ["email"]),
        ("jake", "jake@example.test", ["email", "username"]),
        ("JAKE", "JAKE@EXAMPLE.TEST", ["email", "username"]),
    ],
    ids=["username", "email", "both", "both in another case"],
)
async def test_registration_rejects_a_taken_username_or_email(
    dialect_client: Client, dialect: Dialect, username: str, email: str, taken: list[str]
) -> None:
    await dialect_client.register("jake")
    response = await dialect_client.post("/api/users", account(username, email))
    assert_error(response, 409, "already_taken", dict.fromkeys(taken, TAKEN))


NAME = "Zoë Ångström"
FORMS = {
    "composed": unicodedata.normalize("NFC", NAME),
    "decomposed": unicodedata.normalize("NFD", NAME),
    "upper case": NAME.upper(),
    "upper case, decomposed": unicodedata.normalize("NFD", NAME.upper()),
    "full width": "".join(
        chr(ord(letter) + 0xFEE0) if letter.isascii() and letter != " " else letter
        for letter in NAME
    ),
    "no-break space": NAME.replace(" ", "\u00a0"),
    "with an unseen joiner": NAME.replace("o", "o\u200d"),
    "with an unseen variation selector": NAME.replace("o", "o\ufe0f"),
    "with an unseen grapheme joiner": NAME.replace("o", "o\u034f"),
    "with an unseen Hangul filler": NAME.replace("o", "o\u3164"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("first", ["composed", "decomposed"])
async def test_username_is_taken_in_every_unicode_form(
    client: Client, first: str, form: str
) -> None:
    await client.register("x", username=FORMS[first])
    response = await client.post("/api/users", account(FORMS[form], "other@example.test"))
    assert_error(response, 409, "already_taken", {"username": TAKEN})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("straße", "STRASSE"),
        ("ﬁne", "fine"),
        ("Ⅷ years", "viii years"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("ⓙⓐⓚⓔ", "jake"),
    ],
)
async def test_username_is_taken_when_it_folds_to_the_same_text(
    client: Client, first: str, second: str
) -> None:
    await client.register("x", username=first)
    response = await client.post("/api/users", account(second, "other@example.test"))
    assert_error(response, 409, "already_taken", {"username": TAKEN})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("josé@example.test", "jose\u0301@example.test"),
        ("jake@bücher.test", "jake@xn--bcher-kva.test"),
        ("jake@bücher.test", "JAKE@BÜCHER.TEST"),
        ("jake@ｅxample.test", "jake@example.test"),
    ],
    ids=["composed or not", "domain in either form", "upper case", "full width domain"],
)
async def test_email_is_taken_in_every_form(client: Client, first: str, second: str) -> None:
    await client.register("jake", email=first)
    response = await client.post("/api/users", account("other", second))
    assert_error(response, 409, "already_taken", {"email": TAKEN})
    credentials = {"email": second, "password": "jake-secret"}
    assert (await client.post("/api/users/login", {"user": credentials})).status == 200


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a@straße.de", "a@strasse.de"),
        ("a@faß.example", "a@FASS.example"),
        ("a@βόλος.com", "a@βόλοσ.com"),
    ],
    ids=["sharp s", "sharp s and upper case", "final sigma"],
)
async def test_emails_differ_when_their_domains_differ_in_idna_2008(
    client: Client, first: str, second: str
) -> None:
    """Two registries, two owners: RFC 5894, section 7.2."""
    await client.register("first", email=first)
    await client.register("second", email=second)
    for name, email in (("first", first), ("second", second)):
        local_part, _, domain = email.partition("@")
        punycode = idna.encode(domain, uts46=True).decode()
        for spelling in (email, f"{local_part}@{punycode}", f"{local_part.upper()}@{punycode}"):
            credentials = {"email": spelling, "password": f"{name}-secret"}
            response = await client.post("/api/users/login", {"user": credentials})
            assert (response.status, response.body["user"]["username"]) == (200, name)


async def test_emails_differ_in_an_update_when_their_domains_differ_in_idna_2008(
    make_client: MakeClient,
) -> None:
    # The strict dialect changes an email at once.
    client = await make_client(realworld_strict=True)
    alice, bob = await client.register("alice"), await client.register("bob")
    for token, email in ((alice, "a@straße.de"), (bob, "a@strasse.de")):
        response = await client.put("/api/user", {"user": {"email": email}}, token=token)
        assert (response.status, response.body["user"]["email"]) == (200, email)
    response = await client.put("/api/user", {"user": {"email": "A@XN--STRAE-OQA.de"}}, token=bob)
    assert_error(response, 409, "already_taken", {"email": TAKEN})


# Characters without a glyph, and code points that Unicode reserves for more of them.
INVISIBLE = {
    "Braille blank": "\u2800",
    "null notehead": "\U0001d159",
    "hieroglyphic blank": "\U00013441",
    "half hieroglyphic blank": "\U00013442",
    "Khitan filler": "\U00016fe4",
    "Tifinagh joiner": "\u2d7f",
    "Brahmi joiner": "\U0001107f",
    "object replacement": "\ufffc",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "Khmer vowel": "\u17b4",
    "Mongolian variation selector": "\u180f",
    "reserved, ignorable": "\u2065",
    "reserved special": "\ufff0",
    "reserved tag": "\U000e0080",
    "last reserved tag": "\U000e0fff",
}


@pytest.mark.parametrize("character", INVISIBLE.values(), ids=INVISIBLE)
async def test_username_ignores_invisible_characters(client: Client, character: str) -> None:
    response = await client.post("/api/users", account(character * 3, "blank@example.test"))
    assert_invalid(response, 400, username="can't be blank")
    response = await client.post(
        "/api/users", account(f"{character} {character}", "b@example.test")
    )
    assert_invalid(response, 400, username="can't be blank")
    await client.register("jake")
    for username in (f"jake{character}", f"{character}jake", f"ja{character * 2}ke"):
        response = await client.post("/api/users", account(username, "other@example.test"))
        assert_error(response, 409, "already_taken", {"username": TAKEN})


def test_uniqueness_key_of_a_key_is_the_same_key() -> None:
    unstable = [
        hex(point)
        for point in range(0x110000)
        if not 0xD800 <= point < 0xE000
        and uniqueness_key(uniqueness_key(f"a{chr(point)}b")) != uniqueness_key(f"a{chr(point)}b")
    ]
    assert unstable == []


async def test_one_of_concurrent_registrations_of_an_email_succeeds(
    client: Client, db: asyncpg.Connection
) -> None:
    responses = await asyncio.gather(
        *(client.post("/api/users", account(f"jake{n}", "jake@jake.jake")) for n in range(MANY))
    )
    assert Counter(response.status for response in responses) == {200: 1, 409: MANY - 1}
    for response in responses:
        if response.status == 409:
            assert_error(response, 409, "already_taken", {"email": TAKEN})
    assert await db.fetchval("select count(*) from users") == 1


async def test_one_of_concurrent_registrations_of_a_username_succeeds(
    client: Client, db: asyncpg.Connection
) -> None:
    responses = await asyncio.gather(
        *(client.post("/api/users", account("jake", f"jake{n}@jake.jake")) for n in range(MANY))
    )
    assert Counter(response.status for response in responses) == {200: 1, 409: MANY - 1}
    for response in responses:
        if response.status == 409:
            assert_error(response, 409, "already_taken", {"username": TAKEN})
    assert await db.fetchval("select count(*) from users") == 1


async def test_concurrent_registrations_report_both_fields_when_both_are_taken(
    client: Client, db: asyncpg.Connection
) -> None:
    responses = await asyncio.gather(
        *(client.post("/api/users", account("jake", "jake@jake.jake")) for _ in range(MANY))
    )
    assert Counter(response.status for response in responses) == {200: 1, 409: MANY - 1}
    for response in responses:
        if response.status == 409:
            assert_error(response, 409, "already_taken", {"email": TAKEN, "username": TAKEN})
    assert await db.fetchval("select count(*) from users") == 1


async def test_one_of_concurrent_registrations_succeeds_in_two_processes(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    # Like two processes, two applications share only the database.
    clients = [await make_client(), await make_client()]
    responses = await asyncio.gather(
        *(clients[n % 2].post("/api/users", account("jake", "jake@jake.jake")) for n in range(20))
    )
    assert Counter(response.status for response in responses) == {200: 1, 409: 19}
    assert await db.fetchval("select count(*) from users") == 1


async def test_one_of_concurrent_updates_to_a_username_succeeds(
    client: Client, db: asyncpg.Connection, gate: threading.Event
) -> None:
    tokens = [await client.register(f"user{n}") for n in range(20)]
    hasher = hasher_of(client)
    jobs = hold_workers(hasher, gate)
    fields = {"username": "Same", "password": "another one"}
    requests = [
        asyncio.create_task(client.put("/api/user", {"user": fields}, token=token))
        for token in tokens
    ]
    # Each request has found the username available, and waits for its hash.
    await until(lambda: jobs_of(hasher) == len(jobs) + len(requests))
    gate.set()
    responses = await asyncio.gather(*requests)
    await asyncio.gather(*jobs)
    assert Counter(response.status for response in responses) == {200: 1, 409: 19}
    for response in responses:
        if response.status == 409:
            assert_error(response, 409, "already_taken", {"username": TAKEN})
    assert await db.fetchval("select count(*) from users where username = 'Same'") == 1
