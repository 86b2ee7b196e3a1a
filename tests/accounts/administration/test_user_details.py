"""Find a user by a name, and describe them."""

from uuid import uuid4

import asyncpg
import pytest

from service.accounts.administration import user_details
from service.accounts.administration.user_details import (
    AmbiguousName,
    describe_user,
    find_user,
)
from service.accounts.closed_accounts import close_account
from tests.accounts.account_locks import id_of, lock
from tests.accounts.administration.users import database_of
from tests.accounts.mailed_links import client_without_delivery
from tests.accounts.passkeys.passkeys import add_passkey
from tests.accounts.two_factor.authenticator_app import verify_email
from tests.conftest import Client, MakeClient


async def test_user_is_found_by_email_username_and_id(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.register("alice", email="A@example.test")
    user_id, database = await id_of(db), database_of(client)
    for name in ("a@EXAMPLE.test", "ALICE", str(user_id), str(user_id).upper()):
        assert await find_user(database, name) == user_id
    for name in ("bob", "bob@example.test", str(uuid4()), "", "a\0b", "\udcff", "x" * 10_000):
        assert await find_user(database, name) is None
    await close_account(db, user_id)
    assert await find_user(database, str(user_id)) is None


async def test_email_that_another_user_has_as_their_username_is_ambiguous(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.register("mallory")
    await client.register("alice", email="a@example.test")
    await db.execute(
        "update users set username = 'a@example.test', username_key = 'a@example.test'"
        " where username = 'mallory'"
    )
    alice, mallory = await id_of(db), await id_of(db, "a@example.test")
    with pytest.raises(AmbiguousName) as raised:
        await find_user(database_of(client), "a@example.test")
    assert raised.value.ids == [alice, mallory]


async def test_user_is_not_ambiguous_when_both_names_are_theirs(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.register("a@example.test", email="a@example.test")
    assert await find_user(database_of(client), "a@example.test") == await id_of(
        db, "a@example.test"
    )


async def test_id_that_another_user_has_as_their_username_is_the_id(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.register("alice")
    alice = await id_of(db)
    await client.register(str(alice), email="mallory@example.test")
    assert await find_user(database_of(client), str(alice)) == alice
    # No user has this id.
    await client.register(str(uuid4()), email="carol@example.test")
    carol = await db.fetchrow("select id, username from users order by created_at desc limit 1")
    assert carol is not None
    assert await find_user(database_of(client), carol["username"]) == carol["id"]


async def test_description_has_sign_in_methods_sessions_and_events(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client)
    device = await client.open_account("alice")
    await verify_email(db)
    await add_passkey(client, device.access)
    user_id = await id_of(db)
    await db.execute(
        "insert into identities (user_id, issuer, subject, is_email_verified)"
        " values ($1, 'https://issuer.test', '17', false)",
        user_id,
    )
    await db.execute("insert into consecutive_failures (user_id, failures) values ($1, 3)", user_id)
    found = await describe_user(database_of(client), user_id, client.settings)
    assert found is not None
    assert found["username"], found["email"] == ("alice", "alice@example.test")
    assert found["email_verified_at"] is not None
    assert (found["failed_logins_in_a_row"], found["is_login_locked"]) == (3, False)
    methods = found["sign_in_methods"]
    assert methods["password"] is True
    assert [passkey["last_used_at"] for passkey in methods["passkeys"]] == [None]
    assert [identity["subject"] for identity in methods["identities"]] == ["17"]
    assert [session["id"] for session in found["sessions"]] == [device.session]
    assert [event["kind"] for event in found["events"]] == ["passkey_added", "registered"]
    hashes = await db.fetchval("select password_hash from users")
    assert hashes not in str(found)


async def test_description_tells_that_failures_have_locked_the_login(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(consecutive_failure_limit=3)
    await client.register("alice")
    user_id = await id_of(db)
    await db.execute("insert into consecutive_failures (user_id, failures) values ($1, 3)", user_id)
    found = await describe_user(database_of(client), user_id, client.settings)
    assert found is not None and found["is_login_locked"]
    await db.execute("update users set password_hash = null")
    found = await describe_user(database_of(client), user_id, client.settings)
    assert found is not None and not found["sign_in_methods"]["password"]


async def test_description_has_only_open_sessions_and_a_bounded_number(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_details, "MAX_SESSIONS", 2)
    monkeypatch.setattr(user_details, "MAX_EVENTS", 3)
    await client.open_account("alice")
    devices = [await client.sign_in("alice") for _ in range(3)]
    await client.post("/api/auth/logout", token=devices[2].access)
    found = await describe_user(database_of(client), await id_of(db), client.settings)
    assert found is not None
    assert [session["id"] for session in found["sessions"]] == [
        devices[1].session,
        devices[0].session,
    ]
    assert len(found["events"]) == 3


async def test_closed_account_has_no_description(client: Client, db: asyncpg.Connection) -> None:
    await client.register("alice")
    user_id = await id_of(db)
    await lock(client, user_id)
    await close_account(db, user_id)
    assert await describe_user(database_of(client), user_id, client.settings) is None
