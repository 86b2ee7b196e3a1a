"""A changed email takes effect when the owner of the new email uses a mailed link."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

import sql
from service.accounts.email_change import CONFIRMED
from service.settings.rate_limit import NO_LIMIT, Limit
from tests.accounts.mailed_links import (
    BAD_TOKENS,
    CONFIRM_CHANGE,
    DECLINE,
    FORGOT,
    RESET,
    TWO_EMAILS,
    UNKNOWN_TOKEN,
    VERIFY,
    client_without_delivery,
    is_verified,
    last_token,
    links,
    token_of,
)
from tests.accounts.two_instances import queries_of
from tests.conftest import Client, MakeClient, Response, until_blocked
from tests.responses import assert_error

ALICE, NEW, OTHER = "alice@example.test", "new@example.test", "other@example.test"
UNKNOWN = {"token": ["not found"]}
TAKEN = {"email": ["has already been taken"]}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


@pytest.fixture
async def alice(client: Client, db: asyncpg.Connection) -> str:
    """Register Alice, verify the email, and return the access token."""
    access = await client.register("alice")
    response = await client.post(VERIFY, {"token": await last_token(db, ALICE)})
    assert response.status == 200
    return access


async def put(client: Client, access: str, **given: Any) -> Response:
    return await client.put("/api/user", {"user": given}, token=access)


async def request_change(
    client: Client, db: asyncpg.Connection, access: str, email: str = NEW
) -> str:
    """Request a change of the email, and return the token in the mail to the new one."""
    response = await put(client, access, email=email)
    assert response.status == 200, response
    return await last_token(db, email, "change_email")


async def confirm(client: Client, token: str) -> Response:
    return await client.post(CONFIRM_CHANGE, {"token": token})


async def email_of(client: Client, access: str) -> str:
    response = await client.get("/api/user", token=access)
    email: str = response.body["user"]["email"]
    return email


async def login(client: Client, email: str, password: str | None = None) -> int:
    user = {"email": email, "password": password or "alice-secret"}
    return (await client.post("/api/users/login", {"user": user})).status


async def kinds(client: Client, access: str) -> list[str]:
    events = (await client.get("/api/user/events", token=access)).body["events"]
    return [event["kind"] for event in events]


async def test_email_changes_when_the_new_one_is_confirmed(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    response = await put(client, alice, email=NEW, bio="new")
    assert response.body["user"]["email"] == ALICE and response.body["user"]["bio"] == "new"
    (link,) = await links(db, NEW, "change_email")
    assert link.startswith("http://localhost:3000/api/auth/confirm-email-change?token=")
    response = await confirm(client, token_of(link))
    assert (response.status, response.body) == (200, {"message": CONFIRMED})
    assert await email_of(client, alice) == NEW and await is_verified(db, NEW)
    assert [await login(client, email) for email in (ALICE, NEW)] == [401, 200]
    assert (await kinds(client, alice))[1:3] == ["email_changed", "email_change_requested"]
    assert_error(await confirm(client, token_of(link)), 404, "not_found", UNKNOWN)


async def test_old_email_stays_verified_and_in_use_while_a_change_is_pending(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client)
    device = await client.open_account("alice")
    await client.post(VERIFY, {"token": await last_token(db, ALICE)})
    required = await client_without_delivery(make_client, require_verified_email=True)
    await request_change(client, db, device.access)
    assert await is_verified(db, ALICE)
    for each in (client, required):
        assert [await login(each, email) for email in (ALICE, NEW)] == [200, 401]
    assert (await client.refresh(device.refresh)).status == 200
    await db.execute("delete from outbox")
    for email in (NEW, ALICE):
        assert (await client.post(FORGOT, {"email": email})).status == 200
    assert [tuple(row) for row in await db.fetch("select recipient, template from outbox")] == [
        (ALICE, "reset_password")
    ]


@pytest.mark.parametrize("second", [OTHER, NEW], ids=["another email", "the same email"])
async def test_second_change_makes_the_link_of_the_first_dead(
    client: Client, alice: str, db: asyncpg.Connection, second: str
) -> None:
    first_token = await request_change(client, db, alice)
    token = await request_change(client, db, alice, second)
    assert_error(await confirm(client, first_token), 404, "not_found", UNKNOWN)
    assert await email_of(client, alice) == ALICE and await is_verified(db, ALICE)
    assert (await confirm(client, token)).status == 200
    assert_error(await confirm(client, first_token), 404, "not_found", UNKNOWN)
    assert await email_of(client, alice) == second


async def test_current_email_alone_cancels_the_change(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await request_change(client, db, alice)
    # RealWorld's front-ends send all fields when one was changed.
    assert (await put(client, alice, email=ALICE, username="alice", bio="x")).status == 200
    assert (await client.get(CONFIRM_CHANGE, params={"token": token})).status == 200
    assert (await put(client, alice, email=ALICE)).status == 200
    assert_error(await confirm(client, token), 404, "not_found", UNKNOWN)
    assert await email_of(client, alice) == ALICE


async def test_unchanged_email_sends_no_mail(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await db.execute("delete from outbox")
    for given in ({"email": ALICE}, {"email": ALICE, "bio": "x"}, {"email": "alice@EXAMPLE.test"}):
        assert (await put(client, alice, **given)).status == 200
    assert await db.fetchval("select count(*) from outbox") == 0


async def test_change_of_the_case_alone_must_be_confirmed_too(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    """The local part of an email can have a case (RFC 5321, section 2.4)."""
    token = await request_change(client, db, alice, "Alice@example.test")
    assert await email_of(client, alice) == ALICE
    assert (await confirm(client, token)).status == 200
    assert await email_of(client, alice) == "Alice@example.test"


@pytest.mark.parametrize("in_one_request", [False, True])
async def test_password_change_cancels_only_an_earlier_change(
    client: Client, alice: str, db: asyncpg.Connection, in_one_request: bool
) -> None:
    token = await request_change(client, db, alice)
    given = {"email": OTHER} if in_one_request else {}
    assert (await put(client, alice, password="another secret", **given)).status == 200
    assert_error(await confirm(client, token), 404, "not_found", UNKNOWN)
    if in_one_request:
        assert (await confirm(client, await last_token(db, OTHER, "change_email"))).status == 200
        assert await login(client, OTHER, "another secret") == 200


async def test_reset_cancels_the_change(client: Client, alice: str, db: asyncpg.Connection) -> None:
    token = await request_change(client, db, alice)
    await client.post(FORGOT, {"email": ALICE})
    reset = {
        "token": await last_token(db, ALICE, "reset_password"),
        "new_password": "another secret",
    }
    assert (await client.post(RESET, reset)).status == 200
    assert_error(await confirm(client, token), 404, "not_found", UNKNOWN)
    assert await login(client, ALICE, "another secret") == 200


async def test_confirmation_makes_the_links_to_the_old_email_dead(
    client: Client, db: asyncpg.Connection
) -> None:
    access = await client.register("alice")
    verification = await last_token(db, ALICE)
    await client.post(FORGOT, {"email": ALICE})
    reset = await last_token(db, ALICE, "reset_password")
    assert (await confirm(client, await request_change(client, db, access))).status == 200
    for path, body in (
        (VERIFY, {"token": verification}),
        (DECLINE, {"token": verification}),
        (RESET, {"token": reset, "new_password": "another secret"}),
    ):
        assert_error(await client.post(path, body), 404, "not_found", UNKNOWN)
    assert await db.fetchval("select count(*) from one_time_tokens where used_at is null") == 0
    assert await is_verified(db, NEW)


async def test_confirmation_allows_one_more_request_for_a_reset(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    """The links of the earlier requests are dead, so the owner must be able to get another."""
    limits = (NO_LIMIT, NO_LIMIT, Limit(2, 3600))
    client = await client_without_delivery(
        make_client, trusted_proxies=1, forgot_password_limits=limits
    )
    access = await client.register("alice")

    async def forget(email: str) -> int:
        headers = {"X-Forwarded-For": "203.0.113.9"}
        return (await client.post(FORGOT, {"email": email}, headers=headers)).status

    assert [await forget(ALICE) for _ in range(3)] == [200, 200, 429]
    assert (await confirm(client, await request_change(client, db, access))).status == 200
    assert [await forget(NEW) for _ in range(2)] == [200, 429]
    assert len(await links(db, NEW, "reset_password")) == 1


async def test_confirmation_allows_a_login_that_needs_a_verified_email(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    """A person who mistyped the email at the registration can correct it."""
    client = await client_without_delivery(make_client)
    access = await client.register("alice")
    required = await client_without_delivery(make_client, require_verified_email=True)
    assert await login(required, ALICE) == 403
    assert (await confirm(client, await request_change(client, db, access))).status == 200
    assert await login(required, NEW) == 200


async def test_one_of_two_accounts_that_confirm_one_email_gets_it(
    client: Client, db: asyncpg.Connection
) -> None:
    for number in range(10):
        email, names = f"wanted{number}@example.test", (f"ann{number}", f"ben{number}")
        accesses = [await client.register(name) for name in names]
        tokens = [await request_change(client, db, access, email) for access in accesses]
        responses = await asyncio.gather(*(confirm(client, token) for token in tokens))
        assert sorted(response.status for response in responses) == [200, 409]
        loser = 0 if responses[0].status == 409 else 1
        assert_error(responses[loser], 409, "already_taken", TAKEN)
        assert await email_of(client, accesses[1 - loser]) == email
        assert await email_of(client, accesses[loser]) == f"{names[loser]}@example.test"
        assert not await is_verified(db, f"{names[loser]}@example.test")
        assert "email_changed" not in await kinds(client, accesses[loser])
        again = await put(client, accesses[loser], email=email)
        assert_error(again, 409, "already_taken", TAKEN)


async def test_constraint_decides_when_a_confirmation_waits_for_another(
    client: Client, alice: str, bob: str, db: asyncpg.Connection, database_url: str
) -> None:
    token = await request_change(client, db, alice)
    other = await asyncpg.connect(database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "update users set email = $1, email_key = $1 where username = 'bob'", NEW
        )
        confirming = asyncio.create_task(confirm(client, token))
        await until_blocked(db, 1)
        await transaction.commit()
        assert_error(await confirming, 409, "already_taken", TAKEN)
    finally:
        await other.close()
    assert await email_of(client, alice) == ALICE and await is_verified(db, ALICE)


async def test_email_of_another_account_is_a_conflict_without_a_mail(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    response = await put(client, alice, email="BOB@example.test", bio="new")
    assert_error(response, 409, "already_taken", TAKEN)
    assert await links(db, "BOB@example.test", "change_email") == []
    assert await db.fetchval("select bio from users where username = 'alice'") is None


async def test_failed_change_sends_no_mail(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    response = await put(client, alice, email=NEW, username="bob")
    assert_error(response, 409, "already_taken", {"username": TAKEN["email"]})
    assert await links(db, NEW, "change_email") == []
    purpose = "select count(*) from one_time_tokens where purpose = 'change_email'"
    assert await db.fetchval(purpose) == 0


async def test_changes_to_one_email_are_limited_and_the_rejected_one_changes_nothing(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, verification_mail_limit=Limit(3, 3600))
    accesses = [await client.register(name) for name in ("alice", "bob")]
    for number in range(3):
        assert (await put(client, accesses[number % 2], email=NEW)).status == 200
    response = await put(client, accesses[0], email=NEW, bio="new")
    assert_error(response, 429, "too_many_attempts", {"email": ["too many attempts"]})
    assert 0 < int(response.headers["Retry-After"]) <= 3600
    assert len(await links(db, NEW, "change_email")) == 3
    assert await db.fetchval("select count(*) from users where bio is not null") == 0
    # The rejection leaves the earlier link valid.
    token = token_of((await links(db, NEW, "change_email"))[2])
    assert (await confirm(client, token)).status == 200


async def test_concurrent_uses_of_one_link_change_the_email_once(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await request_change(client, db, alice)
    responses = await asyncio.gather(*(confirm(client, token) for _ in range(100)))
    assert Counter(response.status for response in responses) == {200: 1, 404: 99}
    assert (await kinds(client, alice)).count("email_changed") == 1


async def test_link_locks_the_user_before_the_token(
    client: Client, alice: str, db: asyncpg.Connection, database_url: str
) -> None:
    """Other transactions lock the user, then the tokens. The other order would deadlock."""
    token = await request_change(client, db, alice)
    user_id = await db.fetchval("select id from users")
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await sql.sessions.lock_user(other, user_id=user_id)
            using = asyncio.create_task(confirm(client, token))
            await until_blocked(db, 1)
            await other.execute("select from one_time_tokens for update nowait")
        assert (await using).status == 200
    finally:
        await other.close()


async def test_link_of_one_purpose_is_unknown_at_the_route_of_the_other(
    client: Client, db: asyncpg.Connection
) -> None:
    access = await client.register("alice")
    verification = await last_token(db, ALICE)
    token = await request_change(client, db, access)
    assert_error(await confirm(client, verification), 404, "not_found", UNKNOWN)
    for path in (VERIFY, DECLINE):
        assert_error(await client.post(path, {"token": token}), 404, "not_found", UNKNOWN)
    assert (await client.post(VERIFY, {"token": verification})).status == 200
    assert (await confirm(client, token)).status == 200


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_token_that_cannot_be_one_is_rejected_without_a_query(
    client: Client, monkeypatch: pytest.MonkeyPatch, bad: Any
) -> None:
    names = queries_of(monkeypatch)
    response = await client.post(CONFIRM_CHANGE, bad)
    assert (response.status, response.body["code"]) == (400, "invalid_input")
    assert set(response.body["errors"]) == {"token"}
    assert names == []


async def test_unknown_and_expired_tokens_are_told_apart(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await request_change(client, db, alice)
    await db.execute("update one_time_tokens set expires_at = now() - interval '1 hour'")
    assert_error(await confirm(client, UNKNOWN_TOKEN), 404, "not_found", UNKNOWN)
    assert_error(await confirm(client, token), 410, "link_expired", {"token": ["has expired"]})
    assert await email_of(client, alice) == ALICE


async def test_fields_beside_the_token_are_ignored(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    token = await request_change(client, db, alice)
    bob_id = str(await db.fetchval("select id from users where username = 'bob'"))
    others = {"email": OTHER, "user": {"email": OTHER}, "id": bob_id, "user_id": bob_id}
    response = await client.post(CONFIRM_CHANGE, {"token": token, **others})
    assert response.status == 200
    assert await email_of(client, alice) == NEW
    assert await email_of(client, bob) == "bob@example.test"


@pytest.mark.parametrize("email", TWO_EMAILS.values(), ids=TWO_EMAILS)
async def test_email_that_is_not_one_email_requests_no_change(
    client: Client, alice: str, db: asyncpg.Connection, email: Any
) -> None:
    await db.execute("delete from outbox")
    response = await put(client, alice, email=email)
    assert response.status == 400 and set(response.body["errors"]) == {"email"}
    assert await db.fetchval("select count(*) from outbox") == 0


@pytest.mark.parametrize(
    "given",
    ["New＠example.test", "Ne\u200bw@example.test", "Ne\u00adw@example.test", "New@EXAMPLE.test"],
    ids=["fullwidth at-sign", "zero-width space", "soft hyphen", "case"],
)
async def test_mail_goes_to_the_normal_form_of_the_new_email(
    client: Client, alice: str, db: asyncpg.Connection, given: str
) -> None:
    assert (await put(client, alice, email=given)).status == 200
    token = await last_token(db, "New@example.test", "change_email")
    assert (await confirm(client, token)).status == 200
    assert await email_of(client, alice) == "New@example.test"


async def test_strict_dialect_changes_the_email_at_once(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, realworld_strict=True)
    access = await client.register("alice")
    await client.post(VERIFY, {"token": await last_token(db, ALICE)})
    response = await put(client, access, email=NEW)
    assert (response.status, response.body["user"]["email"]) == (200, NEW)
    assert not await is_verified(db, NEW)
    assert len(await links(db, NEW)) == 1 and await links(db, NEW, "change_email") == []
    assert (await kinds(client, access))[0] == "email_changed"


async def test_link_is_dead_after_a_change_in_the_strict_dialect(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    """An operator can change the dialect while a change is pending."""
    client = await client_without_delivery(make_client)
    access = await client.register("alice")
    token = await request_change(client, db, access)
    strict = await client_without_delivery(make_client, realworld_strict=True)
    assert (await put(strict, access, email=OTHER)).status == 200
    assert_error(await confirm(strict, token), 404, "not_found", UNKNOWN)
    assert await email_of(strict, access) == OTHER


async def test_every_process_shows_the_new_email(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    first, second = [await client_without_delivery(make_client) for _ in range(2)]
    access = await first.register("alice")
    assert await email_of(second, access) == ALICE
    assert (await confirm(first, await request_change(first, db, access))).status == 200
    assert await email_of(first, access) == NEW
    async with asyncio.timeout(30):
        while await email_of(second, access) != NEW:
            await asyncio.sleep(0)
