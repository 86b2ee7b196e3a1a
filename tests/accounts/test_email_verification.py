"""Verify an email with a mailed link, or delete the account that uses it."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

import sql
from service.accounts.email_verification import ALREADY_VERIFIED, CONFIRMED, SENT
from service.accounts.sessions.authentication import SESSION_CACHE
from service.mail.outbox import OUTBOX
from service.settings.rate_limit import Limit
from tests.accounts.mailed_links import (
    BAD_TOKENS,
    DECLINE,
    RESEND,
    TWO_EMAILS,
    UNKNOWN_TOKEN,
    VERIFY,
    client_without_delivery,
    is_verified,
    last_token,
    links,
)
from tests.accounts.two_instances import queries_of
from tests.conftest import Client, Dialect, MakeClient, until_blocked
from tests.responses import assert_error, assert_invalid

ALICE = "alice@example.test"
UNKNOWN = {"token": ["not found"]}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


async def kinds(client: Client, token: str) -> list[str]:
    events = (await client.get("/api/user/events", token=token)).body["events"]
    return [event["kind"] for event in events]


async def test_registration_sends_a_link_that_verifies_the_email(
    make_client: MakeClient, db: asyncpg.Connection, dialect: Dialect
) -> None:
    client = await client_without_delivery(make_client, realworld_strict=dialect.strict)
    access = await client.register("alice")
    assert not await is_verified(db)
    (link,) = await links(db, ALICE)
    assert link.startswith("http://localhost:3000/api/auth/verify-email?token=")
    token = await last_token(db, ALICE)
    response = await client.post(VERIFY, {"token": token})
    assert (response.status, response.body) == (200, {"message": CONFIRMED})
    assert await is_verified(db)
    assert await kinds(client, access) == ["email_verified", "registered"]
    assert_error(await client.post(VERIFY, {"token": token}), 404, "not_found", UNKNOWN)


async def test_concurrent_uses_of_one_link_verify_once(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await last_token(db, ALICE)
    responses = await asyncio.gather(*(client.post(VERIFY, {"token": token}) for _ in range(100)))
    assert Counter(response.status for response in responses) == {200: 1, 404: 99}
    assert (await kinds(client, alice)).count("email_verified") == 1


async def test_failed_registration_sends_no_mail(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    user = {"username": "alice", "email": "other@example.test", "password": "alice-secret"}
    assert (await client.post("/api/users", {"user": user})).status == 409
    assert await db.fetchval("select count(*) from outbox") == 1
    assert await db.fetchval("select count(*) from one_time_tokens") == 1


async def test_unknown_and_expired_tokens_are_told_apart(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await last_token(db, ALICE)
    await db.execute("update one_time_tokens set expires_at = now() - interval '1 hour'")
    for path in (VERIFY, DECLINE):
        unknown = await client.post(path, {"token": UNKNOWN_TOKEN})
        assert_error(unknown, 404, "not_found", UNKNOWN)
        expired = await client.post(path, {"token": token})
        assert_error(expired, 410, "link_expired", {"token": ["has expired"]})
    assert not await is_verified(db)


@pytest.mark.parametrize("path", [VERIFY, DECLINE])
@pytest.mark.parametrize("body", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_token_that_cannot_be_one_is_rejected_without_a_query(
    client: Client, alice: str, monkeypatch: pytest.MonkeyPatch, path: str, body: Any
) -> None:
    names = queries_of(monkeypatch)
    response = await client.post(path, body)
    assert (response.status, response.body["code"]) == (400, "invalid_input")
    assert set(response.body["errors"]) == {"token"}
    assert names == []


async def test_fields_beside_the_token_are_ignored(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    bob_id = await db.fetchval("select id from users where username = 'bob'")
    token = await last_token(db, ALICE)
    others = {"email": "bob@example.test", "user": {"email": "bob@example.test"}, "id": str(bob_id)}
    response = await client.post(VERIFY, {"token": token, "user_id": str(bob_id), **others})
    assert response.status == 200
    assert await is_verified(db, ALICE) and not await is_verified(db, "bob@example.test")


async def test_resend_leaves_the_earlier_links_valid_until_one_is_used(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    for _ in range(2):
        response = await client.post(RESEND, token=alice)
        assert (response.status, response.body) == (200, {"message": SENT})
    first, second, third = [link.partition("=")[2] for link in await links(db, ALICE)]
    assert (await client.post(VERIFY, {"token": second})).status == 200
    for dead in (first, third):
        assert (await client.post(VERIFY, {"token": dead})).status == 404


async def test_resend_says_that_the_email_is_verified_and_sends_nothing(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await client.post(VERIFY, {"token": await last_token(db, ALICE)})
    response = await client.post(RESEND, token=alice)
    assert (response.status, response.body) == (200, {"message": ALREADY_VERIFIED})
    assert len(await links(db, ALICE)) == 1


async def test_resend_without_a_pause_is_rejected(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client()
    await client.http.app[OUTBOX].stop()
    token = await client.register("alice")
    responses = await asyncio.gather(*(client.post(RESEND, token=token) for _ in range(10)))
    assert Counter(response.status for response in responses) == {200: 1, 429: 9}
    rejected = next(response for response in responses if response.status == 429)
    assert_error(rejected, 429, "too_many_attempts", {"email": ["too many attempts"]})
    # A second more: the window begins at the start of a transaction that committed later.
    assert 0 < int(rejected.headers["Retry-After"]) <= 61
    assert len(await links(db, ALICE)) == 2


async def test_mails_to_one_email_are_limited_across_accounts(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, verification_mail_limit=Limit(3, 3600))
    for _ in range(2):
        token = await client.register("alice")
        await client.post(RESEND, token=token)
        body = {"user": {"password": "alice-secret"}}
        assert (await client.delete("/api/user", body, token=token)).status == 204
    assert len(await links(db, ALICE)) == 3
    token = await client.register("alice")
    assert len(await links(db, ALICE)) == 3
    rejected = await client.post(RESEND, token=token)
    assert_error(rejected, 429, "too_many_attempts", {"email": ["too many attempts"]})
    assert 0 < int(rejected.headers["Retry-After"]) <= 3601


async def test_changed_email_is_not_verified_by_the_link_to_the_old_one(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, realworld_strict=True)
    access = await client.register("alice")
    old = await last_token(db, ALICE)
    for email in ("a@example.test", "b@example.test"):
        changed = await client.put("/api/user", {"user": {"email": email}}, token=access)
        assert changed.status == 200
    for token in (old, await last_token(db, "a@example.test")):
        assert (await client.post(VERIFY, {"token": token})).status == 404
    assert not await is_verified(db, "b@example.test")
    token = await last_token(db, "b@example.test")
    assert (await client.post(VERIFY, {"token": token})).status == 200
    assert await is_verified(db, "b@example.test")


async def test_change_of_the_email_ends_its_verification_in_the_strict_dialect(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, realworld_strict=True)
    alice = await client.register("alice")
    await client.post(VERIFY, {"token": await last_token(db, ALICE)})
    for unchanged in ({"email": ALICE}, {"bio": "x"}):
        await client.put("/api/user", {"user": unchanged}, token=alice)
    assert await is_verified(db)
    await client.put("/api/user", {"user": {"email": "new@example.test"}}, token=alice)
    assert await db.fetchval("select email from users") == "new@example.test"
    assert not await is_verified(db, "new@example.test")


@pytest.mark.parametrize("path", [VERIFY, DECLINE])
async def test_link_locks_the_user_before_the_token(
    client: Client, alice: str, db: asyncpg.Connection, database_url: str, path: str
) -> None:
    """Other transactions lock the user, then the tokens. The other order would deadlock."""
    token = await last_token(db, ALICE)
    user_id = await db.fetchval("select id from users")
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await sql.sessions.lock_user(other, user_id=user_id)
            using = asyncio.create_task(client.post(path, {"token": token}))
            await until_blocked(db, 1)
            await other.execute("select from one_time_tokens for update nowait")
        assert (await using).status == 200
    finally:
        await other.close()


async def test_verification_changes_nothing_that_a_process_caches(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await client.get("/api/user", token=alice)
    before = dict(client.http.app[SESSION_CACHE].users)
    await client.post(VERIFY, {"token": await last_token(db, ALICE)})
    assert dict(client.http.app[SESSION_CACHE].users) == before


@pytest.mark.parametrize(
    "given",
    [
        "Alice＠example.test",
        "Al\u200bice@example.test",
        "Al\u00adice@example.test",
        "Alice\ufe0f@example.test",
        "Alice@EXAMPLE.test",
    ],
    ids=["fullwidth at-sign", "zero-width space", "soft hyphen", "variation selector", "case"],
)
async def test_mail_goes_to_the_normal_form_of_the_email(
    client: Client, db: asyncpg.Connection, given: str
) -> None:
    user = {"username": "alice", "email": given, "password": "alice-secret"}
    response = await client.post("/api/users", {"user": user})
    assert (response.status, response.body["user"]["email"]) == (200, "Alice@example.test")
    assert await db.fetchval("select recipient from outbox") == "Alice@example.test"


@pytest.mark.parametrize("email", TWO_EMAILS.values(), ids=TWO_EMAILS)
async def test_email_that_is_not_one_email_is_rejected_without_a_mail(
    client: Client, alice: str, db: asyncpg.Connection, email: Any
) -> None:
    await db.execute("delete from outbox")
    user = {"username": "mallory", "email": email, "password": "mallory-secret"}
    for response in (
        await client.post("/api/users", {"user": user}),
        await client.put("/api/user", {"user": {"email": email}}, token=alice),
    ):
        assert response.status == 400 and set(response.body["errors"]) == {"email"}
    assert await db.fetchval("select count(*) from outbox") == 0


@pytest.mark.parametrize("name", ["email", "\\u0065mail"])
async def test_email_given_twice_is_rejected_without_a_mail(
    client: Client, alice: str, db: asyncpg.Connection, name: str
) -> None:
    await db.execute("delete from outbox")
    raw = (
        f'{{"user": {{"username": "mallory", "{name}": "evil@example.test",'
        ' "email": "mallory@example.test", "password": "mallory-secret"}}'
    )
    for response in (
        await client.send("POST", "/api/users", data=raw),
        await client.send("PUT", "/api/user", data=raw, token=alice),
    ):
        assert_invalid(response, 400, email="must be given once")
    assert await db.fetchval("select count(*) from outbox") == 0
