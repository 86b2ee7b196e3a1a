"""Lock an account: no way in is left, and no session."""

import asyncpg
import pytest

from service.accounts.closed_accounts import close_account
from service.accounts.one_time_tokens import Purpose, issue
from tests.accounts.account_locks import (
    LOCK_WITHOUT_SIDE_EFFECTS,
    LOCKED,
    count_open_sessions,
    id_of,
    kinds_of_events,
    lock,
    unlock,
)
from tests.accounts.logins import login
from tests.accounts.mailed_links import (
    CONFIRM_CHANGE,
    FORGOT,
    REPORT,
    RESET,
    VERIFY,
    client_without_delivery,
    last_token,
    links,
)
from tests.accounts.passkeys.passkeys import add_passkey, log_in
from tests.accounts.two_factor.authenticator_app import (
    AuthenticatorApp,
    challenge_of,
    second_step,
    turn_on,
    verify_email,
)
from tests.accounts.two_instances import REVOKED, TwoInstances
from tests.conftest import Client, Dialect, MakeClient
from tests.responses import assert_error

ALICE = "alice@example.test"
PASSWORD = "alice-secret"
NEW = {"new_password": "a new secret"}
NOT_FOUND = {"errors": {"token": ["not found"]}, "code": "not_found"}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> AuthenticatorApp:
    return AuthenticatorApp(monkeypatch)


async def test_lock_ends_every_session_of_the_account_only(
    make_client: MakeClient, db: asyncpg.Connection, dialect: Dialect
) -> None:
    client = await make_client(realworld_strict=dialect.strict)
    bob = await client.register("bob")
    devices = [await client.open_account("alice"), await client.sign_in("alice")]
    assert await lock(client, await id_of(db))
    for device in devices:
        response = await client.get("/api/user", token=device.access)
        assert_error(response, 401, "token_revoked", {"token": ["has been revoked"]})
        response = await client.refresh(device.refresh)
        assert_error(
            response, 401, "refresh_token_revoked", {"refresh_token": ["has been revoked"]}
        )
        response = await client.post(
            "/api/auth/reauthenticate", {"password": PASSWORD}, token=device.access
        )
        assert response.body == REVOKED
    response = await login(client, "alice", PASSWORD)
    assert (response.status, response.body) == (403, LOCKED)
    assert await client.is_authenticated(bob)
    reasons = await db.fetch("select distinct end_reason from sessions where ended_at is not null")
    assert [row["end_reason"] for row in reasons] == ["account_locked"]


async def test_lock_ends_a_session_that_another_process_has_cached(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    await lock(instances.first, await id_of(db))
    response = await instances.after_sync()
    assert (response.status, response.body) == (401, REVOKED)


async def test_lock_and_unlock_are_logged_once(client: Client, db: asyncpg.Connection) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    assert [await lock(client, user_id), await lock(client, user_id)] == [True, False]
    assert (await login(client, "alice", PASSWORD)).status == 403
    assert [await unlock(client, user_id), await unlock(client, user_id)] == [True, False]
    device = await client.sign_in("alice")
    assert await kinds_of_events(db) == [
        "registered",
        "account_locked",
        "session_ended",
        "sign_in_denied",
        "account_unlocked",
        "signed_in",
    ]
    # The owner sees the lock, without an IP address.
    events = (await client.get("/api/user/events", token=device.access)).body["events"]
    assert [event["ip"] for event in events if event["kind"].startswith("account_")] == [None, None]


async def test_wrong_password_does_not_reveal_the_lock(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    await lock(client, await id_of(db))
    locked, unknown = await login(client, "alice"), await login(client, "nobody")
    assert (locked.status, locked.body) == (unknown.status, unknown.body)
    assert locked.body["code"] == "invalid_credentials"


async def test_passkey_login_is_refused(client: Client, db: asyncpg.Connection) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    authenticator, _ = await add_passkey(client, device.access)
    user_id = await id_of(db)
    await lock(client, user_id)
    response = await log_in(client, authenticator)
    assert (response.status, response.body) == (403, LOCKED)
    assert (await kinds_of_events(db))[-1] == "sign_in_denied"
    # The refusal stores the use of the passkey, with its counter.
    assert await db.fetchval("select last_used_at from passkeys") is not None
    assert await count_open_sessions(db) == 0
    await unlock(client, user_id)
    assert (await log_in(client, authenticator)).status == 200


async def test_first_step_is_refused_without_a_challenge(
    client: Client, db: asyncpg.Connection, app: AuthenticatorApp
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    await turn_on(client, device, app)
    await lock(client, await id_of(db))
    assert (await login(client, "alice", PASSWORD)).body == LOCKED
    query = "select count(*) from one_time_tokens where purpose = 'two_factor'"
    assert await db.fetchval(query) == 0


async def test_challenge_from_before_the_lock_is_dead_after_the_unlock(
    client: Client, db: asyncpg.Connection, app: AuthenticatorApp
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    await turn_on(client, device, app)
    challenge, user_id = await challenge_of(client), await id_of(db)
    await lock(client, user_id)
    await unlock(client, user_id)
    response = await second_step(client, challenge, app.next_code())
    assert (response.status, response.body["code"]) == (401, "challenge_invalid")


async def test_second_step_is_refused_also_with_a_valid_challenge(
    client: Client, db: asyncpg.Connection, app: AuthenticatorApp
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    await turn_on(client, device, app)
    challenge = await challenge_of(client)
    await db.execute(LOCK_WITHOUT_SIDE_EFFECTS)
    # A wrong code does not reveal the lock.
    wrong = await second_step(client, challenge, app.wrong_code())
    assert (wrong.status, wrong.body["code"]) == (401, "code_invalid")
    response = await second_step(client, challenge, app.next_code())
    assert (response.status, response.body) == (403, LOCKED)
    # The refusal uses the challenge up.
    again = await second_step(client, challenge, app.next_code())
    assert (again.status, again.body["code"]) == (401, "challenge_invalid")


async def test_unverified_email_of_a_locked_account_gets_no_mail(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, require_verified_email=True)
    user = {"username": "alice", "email": ALICE, "password": PASSWORD}
    await client.post("/api/users", {"user": user})
    await lock(client, await id_of(db))
    assert (await login(client, "alice", PASSWORD)).body == LOCKED
    assert len(await links(db, ALICE)) == 1


async def test_forgotten_password_of_a_locked_account_sends_no_mail(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    await lock(client, user_id)
    known = await client.post(FORGOT, {"email": ALICE})
    unknown = await client.post(FORGOT, {"email": "nobody@example.test"})
    assert (known.status, known.body) == (unknown.status, unknown.body) == (200, known.body)
    assert await links(db, ALICE, "reset_password") == []
    assert await db.fetchval("select count(*) from one_time_tokens") == 0
    await unlock(client, user_id)
    await client.post(FORGOT, {"email": ALICE})
    assert len(await links(db, ALICE, "reset_password")) == 1


async def test_mailed_links_from_before_the_lock_are_dead_after_the_unlock(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await client.post(FORGOT, {"email": ALICE})
    change = {"user": {"email": "new@example.test"}}
    assert (await client.put("/api/user", change, token=device.access)).status == 200
    tokens = {
        VERIFY: await last_token(db, ALICE),
        RESET: await last_token(db, ALICE, "reset_password"),
        CONFIRM_CHANGE: await last_token(db, "new@example.test", "change_email"),
    }
    user_id = await id_of(db)
    await lock(client, user_id)
    for path, token in tokens.items():
        assert (await client.post(path, {"token": token, **NEW})).body == NOT_FOUND
    await unlock(client, user_id)
    for path, token in tokens.items():
        assert (await client.post(path, {"token": token, **NEW})).body == NOT_FOUND


async def test_reset_changes_nothing_in_a_locked_account_also_with_a_valid_link(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    await client.post(FORGOT, {"email": ALICE})
    token = await last_token(db, ALICE, "reset_password")
    await db.execute(LOCK_WITHOUT_SIDE_EFFECTS)
    before = await db.fetchval("select password_hash from users")
    assert (await client.post(RESET, {"token": token, **NEW})).body == NOT_FOUND
    assert await db.fetchval("select password_hash from users") == before


async def test_report_about_a_locked_account_sends_no_reset_link(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    token = await issue(db, Purpose.REPORT, user_id, email=ALICE, email_key=ALICE)
    await lock(client, user_id)
    assert (await client.post(REPORT, {"token": token})).status == 200
    assert await links(db, ALICE, "reset_password") == []
    assert await db.fetchval("select count(*) from one_time_tokens where used_at is null") == 0
    (user,) = await db.fetch("select password_hash, locked_at from users")
    assert user["password_hash"] is None
    assert user["locked_at"] is not None
    await unlock(client, user_id)
    await client.post(FORGOT, {"email": ALICE})
    reset = {"token": await last_token(db, ALICE, "reset_password"), **NEW}
    assert (await client.post(RESET, reset)).status == 200


async def test_closed_account_has_no_lock(client: Client, db: asyncpg.Connection) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    await lock(client, user_id)
    await close_account(db, user_id)
    assert await db.fetchval("select closed_at from users") is not None
    assert not await lock(client, user_id)
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(LOCK_WITHOUT_SIDE_EFFECTS)
