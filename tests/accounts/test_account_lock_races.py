"""The lock of an account during requests of its user: no way in is left."""

import asyncio
from typing import Any

import asyncpg
import pytest

import sql
from service.accounts.sessions.sessions import NO_ATTEMPT
from service.settings.rate_limit import NO_LIMIT
from tests.accounts.account_locks import (
    LOCK_WITHOUT_SIDE_EFFECTS,
    LOCKED,
    count_open_sessions,
    id_of,
    kinds_of_events,
    lock,
    lock_uncommitted,
    unlock,
)
from tests.accounts.logins import login
from tests.accounts.mailed_links import FORGOT, RESET, client_without_delivery, last_token, links
from tests.accounts.passkeys.passkeys import add_passkey, log_in
from tests.accounts.two_factor.authenticator_app import (
    AuthenticatorApp,
    challenge_of,
    second_step,
    turn_on,
    verify_email,
)
from tests.conftest import COUNT_BLOCKED, Client, Device, MakeClient, Response, until_blocked

ROUNDS = 15
ALICE = "alice@example.test"
PASSWORD = "alice-secret"
UNLOCKED = {"login_limits": (NO_LIMIT, NO_LIMIT, NO_LIMIT)}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    """Return a client of a service without login limits, which would delay the logins."""
    return await client_without_delivery(make_client, **UNLOCKED)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> AuthenticatorApp:
    return AuthenticatorApp(monkeypatch)


async def during_lock(db: asyncpg.Connection, *requests: Any) -> list[Response]:
    """Return the responses to requests that wait until the lock of Alice's account commits."""
    user_id = await id_of(db)
    async with db.transaction():
        await lock_uncommitted(db, user_id)
        under_way = asyncio.gather(*requests)
        await until_blocked(db, len(requests))
    responses: list[Response] = await under_way
    return responses


async def test_logins_concurrent_with_a_lock_leave_no_open_session(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    for _ in range(ROUNDS):
        under_way = asyncio.gather(
            *(login(client, "alice", PASSWORD) for _ in range(12)), lock(client, user_id)
        )
        responses: list[Any] = await under_way
        assert responses.pop()
        assert await count_open_sessions(db) == 0
        for response in responses:
            if response.status == 200:
                device = Device.of(response)
                assert not await client.is_authenticated(device.access)
                assert (await client.refresh(device.refresh)).status == 401
            else:
                assert response.body == LOCKED
        await unlock(client, user_id)


async def test_logins_that_wait_for_a_lock_are_refused(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    responses = await during_lock(db, *(login(client, "alice", PASSWORD) for _ in range(6)))
    assert [response.body for response in responses] == [LOCKED] * 6
    assert await count_open_sessions(db) == 0
    assert (await kinds_of_events(db)).count("sign_in_denied") == 6


async def test_lock_ends_the_session_of_a_login_that_it_has_waited_for(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    async with db.transaction():
        opened = await sql.sessions.open(
            db,
            user_id=user_id,
            password_version=0,
            ttl=60,
            digest=b"",
            refresh_token_ttl=60,
            kind="signed_in",
            ip=None,
            user_agent=None,
            ip_key="203.0.113.9",
            amr=["pwd"],
            is_fresh=True,
            known_only=False,
            **NO_ATTEMPT,
        )
        assert opened["id"] is not None
        locking = asyncio.create_task(lock(client, user_id))
        await until_blocked(db, 1)
    assert await locking
    assert await count_open_sessions(db) == 0


async def test_login_that_waits_for_a_lock_rejects_a_password_that_has_changed(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    async with db.transaction():
        await db.execute(
            "update users set locked_at = now(), password_version = password_version + 1"
        )
        waiting = asyncio.create_task(login(client, "alice", PASSWORD))
        await until_blocked(db, 1)
    assert (await waiting).body["code"] == "invalid_credentials"


async def test_first_step_that_waits_for_a_lock_issues_no_challenge(
    client: Client, db: asyncpg.Connection, app: AuthenticatorApp
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    await turn_on(client, device, app)
    (response,) = await during_lock(db, login(client, "alice", PASSWORD))
    assert response.body == LOCKED
    query = "select count(*) from one_time_tokens where purpose = 'two_factor'"
    assert await db.fetchval(query) == 0


async def test_second_step_that_waits_for_a_lock_opens_no_session(
    client: Client, db: asyncpg.Connection, app: AuthenticatorApp
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    await turn_on(client, device, app)
    challenge = await challenge_of(client)
    (response,) = await during_lock(db, second_step(client, challenge, app.next_code()))
    assert response.status in (401, 403)
    assert await count_open_sessions(db) == 0


async def test_passkey_login_that_waits_for_a_lock_is_refused(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    authenticator, _ = await add_passkey(client, device.access)
    (response,) = await during_lock(db, log_in(client, authenticator))
    assert response.body == LOCKED
    assert await count_open_sessions(db) == 0


async def test_login_with_an_unverified_email_that_waits_for_a_lock_sends_no_mail(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, require_verified_email=True, **UNLOCKED)
    user = {"username": "alice", "email": ALICE, "password": PASSWORD}
    await client.post("/api/users", {"user": user})
    (response,) = await during_lock(db, login(client, "alice", PASSWORD))
    assert response.body == LOCKED
    assert len(await links(db, ALICE)) == 1


async def test_refreshes_concurrent_with_a_lock_leave_no_valid_token(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    for _ in range(ROUNDS):
        device = await client.sign_in("alice")
        # All of them wait for the session, and continue in the order of their arrival.
        async with db.transaction():
            await db.execute("select from sessions where id = $1 for update", device.session)
            under_way = asyncio.gather(
                *(client.refresh(device.refresh) for _ in range(4)),
                lock(client, user_id),
                *(client.refresh(device.refresh) for _ in range(4)),
            )
            await until_blocked(db, 9)
        results: list[Any] = await under_way
        assert results.pop(4)
        for response in results:
            if response.status == 200:
                refreshed = Device.of(response)
                assert not await client.is_authenticated(refreshed.access)
                response = await client.refresh(refreshed.refresh)
            assert response.body["code"] == "refresh_token_revoked"
        assert await count_open_sessions(db) == 0
        await unlock(client, user_id)


async def test_reset_that_waits_for_a_lock_changes_nothing(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    await client.post(FORGOT, {"email": ALICE})
    token = await last_token(db, ALICE, "reset_password")
    reset = client.post(RESET, {"token": token, "new_password": "a new secret"})
    (response,) = await during_lock(db, reset)
    assert (response.status, response.body["code"]) == (404, "not_found")
    assert (await login(client, "alice", PASSWORD)).body == LOCKED
    assert (await login(client, "alice", "a new secret")).status == 401


async def test_reset_changes_nothing_when_the_lock_commits_while_it_waits_and_revokes_no_link(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    await client.post(FORGOT, {"email": ALICE})
    token = await last_token(db, ALICE, "reset_password")
    async with db.transaction():
        await db.execute(LOCK_WITHOUT_SIDE_EFFECTS)
        reset = client.post(RESET, {"token": token, "new_password": "a new secret"})
        waiting = asyncio.create_task(reset)
        await until_blocked(db, 1)
    assert (await waiting).status == 404
    assert (await login(client, "alice", "a new secret")).status == 401


async def test_request_for_a_reset_that_waits_for_a_lock_sends_no_mail(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    (response,) = await during_lock(db, client.post(FORGOT, {"email": ALICE}))
    assert response.status == 200
    assert await links(db, ALICE, "reset_password") == []


async def test_refresh_that_waits_past_the_expiry_of_its_session_does_not_survive_the_lock(
    client: Client, db: asyncpg.Connection, database_url: str
) -> None:
    """The session has expired when the lock is set, but not for the refresh that began before."""
    device = await client.open_account("alice")
    user_id = await id_of(db)
    other = await asyncpg.connect(database_url)
    await db.execute("update sessions set idle_expires_at = now() + interval '1 s'")
    async with other.transaction():
        await other.execute("select from sessions for update")
        refresh = asyncio.create_task(client.refresh(device.refresh))
        await until_blocked(db, 1)
        while not await db.fetchval("select idle_expires_at <= now() from sessions"):
            await asyncio.sleep(0)
        locking = asyncio.create_task(lock(client, user_id))
        # The lock waits for the refresh, or it is done without the session.
        while not locking.done() and await db.fetchval(COUNT_BLOCKED) < 2:
            await db.execute("select pg_stat_clear_snapshot()")
    await other.close()
    await asyncio.gather(refresh, locking)
    assert await count_open_sessions(db) == 0
