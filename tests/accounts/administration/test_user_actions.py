"""What an administrator does with one account."""

import asyncio
from functools import partial
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from service.accounts.account_lock import AccountLocked, lock_account
from service.accounts.administration import user_actions
from service.accounts.closed_accounts import close_account
from service.accounts.throttling.throttle import THROTTLE
from service.http.errors import NotFound
from tests.accounts.account_locks import (
    count_open_sessions,
    id_of,
    kinds_of_events,
    lock_uncommitted,
)
from tests.accounts.administration.users import act
from tests.accounts.logins import login
from tests.accounts.mailed_links import (
    FORGOT,
    RESET,
    VERIFY,
    client_without_delivery,
    last_token,
    links,
)
from tests.accounts.two_factor.authenticator_app import (
    AuthenticatorApp,
    challenge_of,
    second_step,
    turn_on,
    verify_email,
)
from tests.accounts.two_instances import REVOKED, TwoInstances
from tests.conftest import Client, Device, MakeClient, until_blocked

ALICE = "alice@example.test"
NEW = {"new_password": "a new secret"}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> AuthenticatorApp:
    return AuthenticatorApp(monkeypatch)


async def actors(db: asyncpg.Connection) -> list[tuple[str, str | None]]:
    """Return the kind and the actor of all events without an IP address, the oldest first."""
    rows = await db.fetch("select kind, actor from events where ip is null order by id")
    return [(row["kind"], row["actor"]) for row in rows]


async def test_sign_out_ends_every_session_of_the_user_only(
    client: Client, db: asyncpg.Connection
) -> None:
    bob = await client.register("bob")
    devices = [await client.open_account("alice"), await client.sign_in("alice")]
    assert await act(client, user_actions.sign_out_user, await id_of(db)) == 2
    for device in devices:
        assert (await client.get("/api/user", token=device.access)).body == REVOKED
        assert (await client.refresh(device.refresh)).body["code"] == "refresh_token_revoked"
    assert await client.is_authenticated(bob)
    # The person can log in again at once.
    device = await client.sign_in("alice")
    assert await actors(db) == [
        ("signed_out_by_administrator", "cli"),
        ("session_ended", "cli"),
        ("session_ended", "cli"),
    ]
    events = (await client.get("/api/user/events", token=device.access)).body["events"]
    by_administrator = [event["by_administrator"] for event in events]
    assert by_administrator == [False, True, True, True, False, False]


async def test_sign_out_ends_a_session_that_another_process_has_cached(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    await act(instances.first, user_actions.sign_out_user, await id_of(db))
    response = await instances.after_sync()
    assert (response.status, response.body) == (401, REVOKED)


async def test_sign_out_ends_a_login_that_waits_for_the_second_factor(
    client: Client, db: asyncpg.Connection, app: AuthenticatorApp
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    await turn_on(client, device, app)
    challenge = await challenge_of(client)
    await act(client, user_actions.sign_out_user, await id_of(db))
    response = await second_step(client, challenge, app.next_code())
    assert (response.status, response.body["code"]) == (401, "challenge_invalid")


async def test_end_session_ends_one_open_session_of_the_user(
    client: Client, db: asyncpg.Connection
) -> None:
    kept, ended = await client.open_account("alice"), await client.sign_in("alice")
    bob = await client.open_account("bob")
    end = partial(act, client, user_actions.end_session, await id_of(db))
    assert await end(ended.session)
    assert not await end(ended.session)
    assert not await end(bob.session)
    assert not await client.is_authenticated(ended.access)
    assert await client.is_authenticated(kept.access)
    assert await client.is_authenticated(bob.access)
    assert await actors(db) == [("signed_out_by_administrator", "cli")]


async def test_verify_email_is_done_and_logged_once(client: Client, db: asyncpg.Connection) -> None:
    await client.open_account("alice")
    token = await last_token(db, ALICE)
    verify = partial(act, client, user_actions.verify_email, await id_of(db), ALICE)
    assert [await verify(), await verify()] == [True, False]
    assert await db.fetchval("select ever_verified and email_verified_at <= now() from users")
    assert await actors(db) == [("email_verified", "cli")]
    # The owner of the email could otherwise delete the account with the link.
    assert (await client.post(VERIFY, {"token": token})).status == 404


async def test_verify_email_rejects_an_email_that_has_changed(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    await db.execute("update users set email = 'new@x.test', email_key = 'new@x.test'")
    with pytest.raises(NotFound):
        await act(client, user_actions.verify_email, user_id, ALICE)
    assert await db.fetchval("select email_verified_at from users") is None


async def test_reset_mails_a_link_and_changes_nothing_before_its_use(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    start = partial(act, client, user_actions.start_reset, await id_of(db))
    assert await start(settings=client.settings) == ALICE
    assert await client.is_authenticated(device.access)
    await client.sign_in("alice")
    body = {"token": await last_token(db, ALICE, "reset_password"), "new_password": "a new secret"}
    assert (await client.post(RESET, body)).status == 200
    assert not await client.is_authenticated(device.access)
    await client.sign_in("alice", "a new secret")
    assert (await actors(db))[0] == ("password_reset_requested", "cli")


async def test_reset_can_end_the_password_and_the_sessions_at_once(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await client.post(FORGOT, {"email": ALICE})
    old = await last_token(db, ALICE, "reset_password")
    reset = partial(user_actions.start_reset, revoke_password=True)
    await act(client, reset, await id_of(db), client.settings)
    assert (await client.get("/api/user", token=device.access)).body == REVOKED
    assert (await login(client, "alice", "alice-secret")).body["code"] == "invalid_credentials"
    # A stranger may have asked for the link from before.
    assert (await client.post(RESET, {"token": old, **NEW})).status == 404
    new = await last_token(db, ALICE, "reset_password")
    assert (await client.post(RESET, {"token": new, **NEW})).status == 200
    await client.sign_in("alice", "a new secret")
    assert (await actors(db))[:3] == [
        ("password_revoked", "cli"),
        ("session_ended", "cli"),
        ("password_reset_requested", "cli"),
    ]


async def test_reset_that_waits_for_a_lock_sends_no_mail(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    async with db.transaction():
        await lock_uncommitted(db, user_id)
        waiting = asyncio.create_task(
            act(client, user_actions.start_reset, user_id, client.settings)
        )
        await until_blocked(db, 1)
    with pytest.raises(AccountLocked):
        await waiting
    assert await links(db, ALICE, "reset_password") == []


async def test_verify_that_waits_for_a_change_of_the_email_verifies_nothing(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    async with db.transaction():
        await db.execute("update users set email = 'new@x.test', email_key = 'new@x.test'")
        waiting = asyncio.create_task(act(client, user_actions.verify_email, user_id, ALICE))
        await until_blocked(db, 1)
    with pytest.raises(NotFound):
        await waiting
    assert await db.fetchval("select email_verified_at from users") is None
    assert await actors(db) == []


async def test_refreshes_and_logins_that_race_with_a_sign_out_keep_no_older_session(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    for _ in range(10):
        device = await client.sign_in("alice")
        # All of them wait for the session, and continue in the order of their arrival.
        async with db.transaction():
            await db.execute("select from sessions where id = $1 for update", device.session)
            under_way = asyncio.gather(
                *(client.refresh(device.refresh) for _ in range(3)),
                act(client, user_actions.sign_out_user, user_id),
                *(client.refresh(device.refresh) for _ in range(3)),
            )
            await until_blocked(db, 7)
        results: list[Any] = await under_way
        results.pop(3)
        for response in results:
            if response.status == 200:
                refreshed = Device.of(response)
                assert not await client.is_authenticated(refreshed.access)
                response = await client.refresh(refreshed.refresh)
            assert response.body["code"] == "refresh_token_revoked"
        assert await count_open_sessions(db) == 0


async def test_sign_out_ends_the_session_of_a_login_that_it_has_waited_for(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    async with db.transaction():
        await db.execute("select from users where id = $1 for share", user_id)
        await db.execute(
            "insert into sessions (user_id, expires_at, idle_expires_at)"
            " values ($1, 'infinity', 'infinity')",
            user_id,
        )
        signing_out = asyncio.create_task(act(client, user_actions.sign_out_user, user_id))
        await until_blocked(db, 1)
    assert await signing_out == 2
    assert await count_open_sessions(db) == 0


async def test_reset_of_a_locked_account_sends_no_mail(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    user_id = await id_of(db)
    await act(client, lock_account, user_id)
    with pytest.raises(AccountLocked):
        await act(client, user_actions.start_reset, user_id, client.settings)
    assert await links(db, ALICE, "reset_password") == []
    assert await actors(db) == [("account_locked", "cli"), ("session_ended", "cli")]


async def test_disable_two_factor_tells_the_owner(
    client: Client, db: asyncpg.Connection, app: AuthenticatorApp
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    await turn_on(client, device, app)
    assert client.http.app is not None
    disable = partial(
        act,
        client,
        user_actions.disable_two_factor,
        await id_of(db),
        throttle=client.http.app[THROTTLE],
        settings=client.settings,
    )
    assert [await disable(), await disable()] == [True, False]
    assert await actors(db) == [("two_factor_disabled", "cli")]
    query = "select count(*) from outbox where template = 'two_factor_off'"
    assert await db.fetchval(query) == 1
    await client.sign_in("alice")


async def test_delete_ends_the_account_and_keeps_its_event(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    user_id = await id_of(db)
    await act(client, user_actions.delete_account, user_id)
    assert (await client.get("/api/user", token=device.access)).body == REVOKED
    assert (await client.refresh(device.refresh)).status == 401
    assert await db.fetchval("select username from users where id = $1", user_id) is None
    assert await actors(db) == [("account_deleted", "cli")]
    # The username and the email are free.
    await client.open_account("alice")


async def test_acts_on_an_unknown_or_closed_account_are_not_found(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    closed = await id_of(db)
    await close_account(db, closed)
    assert client.http.app is not None
    tools = {"throttle": client.http.app[THROTTLE], "settings": client.settings}
    for user_id in (closed, uuid4()):
        for action in (
            user_actions.sign_out_user,
            partial(user_actions.verify_email, email=ALICE),
            partial(user_actions.start_reset, settings=client.settings),
            partial(user_actions.disable_two_factor, **tools),
            user_actions.delete_account,
        ):
            with pytest.raises(NotFound):
                await act(client, action, user_id)
    assert await kinds_of_events(db) == ["registered"]
