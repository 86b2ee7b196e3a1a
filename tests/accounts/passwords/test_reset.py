"""Reset a forgotten password with a mailed link."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from service.accounts.one_time_tokens import Purpose, issue
from service.accounts.passwords import reset
from service.accounts.passwords.hasher import PASSWORDS
from service.settings.rate_limit import Limit
from tests.accounts.logins import ELSEWHERE, HERE, login, statuses
from tests.accounts.mailed_links import (
    BAD_TOKENS,
    FORGOT,
    RESET,
    UNKNOWN_TOKEN,
    VERIFY,
    client_without_delivery,
    last_token,
    open_page,
    submit,
)
from tests.accounts.two_instances import TwoInstances, queries_of
from tests.conftest import Client, Dialect, MakeClient
from tests.responses import assert_error, assert_invalid

ALICE = "alice@example.test"
NEW = "a new secret"
UNKNOWN = {"token": ["not found"]}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


async def request_token(client: Client, db: asyncpg.Connection, email: str = ALICE) -> str:
    """Request a link for ``email``, and return its token."""
    assert (await client.post(FORGOT, {"email": email})).status == 200
    return await last_token(db, email, "reset_password")


def body(token: str, password: str = NEW) -> dict[str, str]:
    return {"token": token, "new_password": password}


async def test_reset_replaces_the_password_and_ends_every_session(
    make_client: MakeClient, db: asyncpg.Connection, dialect: Dialect
) -> None:
    client = await client_without_delivery(make_client, realworld_strict=dialect.strict)
    first = await client.open_account("alice")
    second = await client.sign_in("alice")
    token = await request_token(client, db)
    response = await client.post(RESET, body(token))
    assert (response.status, response.body) == (200, {"message": reset.RESET})
    for device in (first, second):
        rejected = await client.get("/api/user", token=device.access)
        assert (rejected.status, rejected.body["code"]) == (401, "token_revoked")
        rejected = await client.refresh(device.refresh)
        assert (rejected.status, rejected.body["code"]) == (401, "refresh_token_revoked")
    assert (await login(client, "alice", "alice-secret")).status == 401
    device = await client.sign_in("alice", NEW)
    events = (await client.get("/api/user/events", token=device.access)).body["events"]
    kinds = [event["kind"] for event in events]
    assert kinds[2:6] == [
        "session_ended",
        "session_ended",
        "password_reset",
        "password_reset_requested",
    ]
    reasons = await db.fetch("select end_reason from sessions where ended_at is not null")
    assert [row["end_reason"] for row in reasons] == ["password_reset"] * 2
    assert_error(await client.post(RESET, body(token)), 404, "not_found", UNKNOWN)


async def test_reset_ends_sessions_that_another_process_has_cached(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    user_id = await db.fetchval("select id from users")
    token = await issue(db, Purpose.RESET_PASSWORD, user_id, email=ALICE, email_key=ALICE)
    assert (await instances.first.post(RESET, body(token))).status == 200
    assert (await instances.after_sync()).status == 401


async def test_concurrent_uses_of_one_link_reset_once(
    make_client: MakeClient, alice: str, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, password_queue_size=200)
    token = await request_token(client, db)
    uses = (client.post(RESET, body(token, f"secret number {n}")) for n in range(100))
    responses = await asyncio.gather(*uses)
    assert Counter(response.status for response in responses) == {200: 1, 404: 99}
    assert await db.fetchval("select password_version from users") == 1
    winner = next(n for n, response in enumerate(responses) if response.status == 200)
    await client.sign_in("alice", f"secret number {winner}")


async def test_reset_verifies_the_email(client: Client, alice: str, db: asyncpg.Connection) -> None:
    await client.post(RESET, body(await request_token(client, db)))
    row = await db.fetchrow("select email_verified_at is not null as now, ever_verified from users")
    assert tuple(row) == (True, True)


async def test_reset_opens_an_account_that_must_be_verified(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, require_verified_email=True)
    user = {"username": "alice", "email": ALICE, "password": "alice-secret"}
    assert (await client.post("/api/users", {"user": user})).status == 403
    await client.post(RESET, body(await request_token(client, db)))
    await client.sign_in("alice", NEW)


async def test_reset_kills_every_other_mailed_link(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    verification = await last_token(db, ALICE)
    first, second, third = [await request_token(client, db) for _ in range(3)]
    assert (await client.post(RESET, body(second))).status == 200
    for dead in (first, second, third):
        assert_error(await client.post(RESET, body(dead)), 404, "not_found", UNKNOWN)
    assert (await client.post(VERIFY, {"token": verification})).status == 404
    await client.sign_in("alice", NEW)


async def test_password_change_kills_the_link(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await request_token(client, db)
    changed = {"user": {"password": "another secret"}}
    assert (await client.put("/api/user", changed, token=alice)).status == 200
    assert (await client.post(RESET, body(token))).status == 404


async def test_link_to_an_earlier_email_is_dead(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await request_token(client, db)
    await db.execute("update users set email = 'new@example.test', email_key = 'new@example.test'")
    assert (await open_page(client, RESET, token)).status == 404
    assert_error(await client.post(RESET, body(token)), 404, "not_found", UNKNOWN)
    await client.sign_in("new", "alice-secret")


async def test_email_that_changes_during_the_hash_makes_the_link_dead(
    client: Client, alice: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await request_token(client, db)
    hasher = client.http.app[PASSWORDS]
    hash_password = hasher.hash

    async def change_and_hash(*arguments: Any) -> str:
        await db.execute("update users set email = 'new@example.test', email_key = 'new'")
        return str(await hash_password(*arguments))

    monkeypatch.setattr(hasher, "hash", change_and_hash)
    assert (await client.post(RESET, body(token))).status == 404
    assert await client.is_authenticated(alice)
    assert await db.fetchval("select password_version from users") == 0


async def test_unknown_and_expired_links_are_told_apart_without_a_hash(
    client: Client, alice: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await request_token(client, db)
    other = await last_token(db, ALICE)
    await db.execute("update one_time_tokens set expires_at = now() where purpose like 'reset%'")
    monkeypatch.setattr(client.http.app[PASSWORDS], "hash", None)
    for unknown in (UNKNOWN_TOKEN, other):
        assert_error(await client.post(RESET, body(unknown)), 404, "not_found", UNKNOWN)
    expired = await client.post(RESET, body(token))
    assert_error(expired, 410, "link_expired", {"token": ["has expired"]})
    # The token of another purpose was not used.
    assert (await client.post(VERIFY, {"token": other})).status == 200


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_token_that_cannot_be_one_is_rejected_without_a_query(
    client: Client, alice: str, monkeypatch: pytest.MonkeyPatch, bad: Any
) -> None:
    names = queries_of(monkeypatch)
    response = await client.post(RESET, {"new_password": NEW, **bad})
    assert (response.status, response.body["code"]) == (400, "invalid_input")
    assert set(response.body["errors"]) == {"token"}
    assert names == []


async def test_fields_beside_the_token_are_ignored(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    bob_id = str(await db.fetchval("select id from users where username = 'bob'"))
    others = {"email": "bob@example.test", "user": {"id": bob_id}, "id": bob_id, "user_id": bob_id}
    token = await request_token(client, db)
    assert (await client.post(RESET, {**others, **body(token)})).status == 200
    assert await client.is_authenticated(bob) and not await client.is_authenticated(alice)


async def test_invalid_password_leaves_the_link_unused(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await request_token(client, db)
    for password, message in (
        ("short", "is too short (minimum is 8 characters)"),
        ("x" * 73, "is too long (maximum is 72 bytes)"),
        ("", "can't be blank"),
    ):
        response = await client.post(RESET, body(token, password))
        assert_invalid(response, 400, new_password=message)
    assert (await client.post(RESET, body(token))).status == 200


async def test_opening_the_page_uses_no_link(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await request_token(client, db)
    for _ in range(3):
        page = await open_page(client, RESET, token)
        assert page.status == 200 and ALICE in page.body and "<script" not in page.body
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        async with client.http.head(RESET, params={"token": token}) as head:
            assert head.status == 200
        async with client.http.options(RESET, params={"token": token}) as options:
            assert options.status == 405
    assert await client.is_authenticated(alice)
    assert (await client.post(RESET, body(token))).status == 200


async def test_form_resets_with_a_page(client: Client, alice: str, db: asyncpg.Connection) -> None:
    token = await request_token(client, db)
    page = await submit(client, RESET, token=token, new_password=NEW, username="bob")
    assert page.status == 200 and "<h1>Password changed</h1>" in page.body
    await client.sign_in("alice", NEW)
    again = await submit(client, RESET, token=token, new_password=NEW)
    assert again.status == 404 and "<h1>This link is not valid</h1>" in again.body


async def test_form_with_an_invalid_password_is_shown_again(
    make_client: MakeClient, db: asyncpg.Connection, dialect: Dialect
) -> None:
    client = await client_without_delivery(make_client, realworld_strict=dialect.strict)
    await client.register("alice")
    token = await request_token(client, db)
    page = await submit(client, RESET, token=token, new_password="short")
    assert page.status == dialect.invalid and page.headers["Cache-Control"] == "no-store"
    assert "The password is too short." in page.body
    assert (
        f'name="token" value="{token}"' in page.body and "short" not in page.body.split("<p id")[0]
    )
    for bad in (UNKNOWN_TOKEN, ""):
        page = await submit(client, RESET, token=bad, new_password="short")
        assert "<h1>This link is not" in page.body and "<form" not in page.body
    page = await submit(client, RESET, token=token, new_password=NEW)
    assert page.status == 200


async def test_form_is_shown_again_past_the_limit(
    make_client: MakeClient, alice: str, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, password_change_limit=Limit(1, 600))
    assert (await client.post(RESET, body(await request_token(client, db)))).status == 200
    token = await request_token(client, db)
    page = await submit(client, RESET, token=token, new_password=NEW)
    assert page.status == 429 and 0 < int(page.headers["Retry-After"]) <= 600
    assert "Please try again in 10 min." in page.body and f'value="{token}"' in page.body
    rejected = await client.post(RESET, body(token))
    assert_error(rejected, 429, "too_many_attempts", {"password": ["too many attempts"]})


async def test_password_changes_of_a_thief_do_not_count_as_resets(
    make_client: MakeClient, alice: str, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, password_change_limit=Limit(1, 600))
    changed = {"user": {"password": "another secret"}}
    assert (await client.put("/api/user", changed, token=alice)).status == 200
    assert (await client.put("/api/user", changed, token=alice)).status == 429
    assert (await client.post(RESET, body(await request_token(client, db)))).status == 200


async def test_reset_lets_the_owner_log_in_after_a_lockout(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, trusted_proxies=1)
    user = {"username": "alice", "email": ALICE, "password": "alice-secret"}
    thief = {"X-Forwarded-For": "203.0.113.200"}
    assert (await client.post("/api/users", {"user": user}, headers=thief)).status == 200
    for number in range(9):
        wrong = (login(client, "alice", ip=f"203.0.113.{number}") for _ in range(5))
        assert await statuses(*wrong) == {401: 5}
    assert await statuses(*(login(client, "alice") for _ in range(5))) == {401: 5}
    assert (await login(client, "alice", "alice-secret")).status == 429
    token = await request_token(client, db)
    owner = {"X-Forwarded-For": HERE}
    assert (await client.post(RESET, body(token), headers=owner)).status == 200
    assert (await login(client, "alice", NEW)).status == 200
    # The limit of the account still applies to strangers, and to the IP address of the thief.
    assert (await login(client, "alice", NEW, ip=ELSEWHERE)).status == 429
    assert (await login(client, "alice", NEW, ip="203.0.113.200")).status == 429
