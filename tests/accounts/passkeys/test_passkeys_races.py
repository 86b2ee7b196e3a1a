"""Simultaneous requests with passkeys."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import asyncpg

from tests.accounts.passkeys.authenticator import Authenticator
from tests.accounts.passkeys.passkeys import (
    LOGIN,
    PASSKEYS,
    add,
    add_passkey,
    creation_options,
    kinds_of_events,
    list_passkeys,
    request_options,
)
from tests.conftest import Client, Response, until_blocked

LOCK = "select from users where username = $1 for update"


async def codes(*requests: Awaitable[Response]) -> Counter[Any]:
    """Send the requests simultaneously. Count the statuses of successes and the codes of errors."""
    responses = await asyncio.gather(*requests)
    return Counter((response.body or {}).get("code", response.status) for response in responses)


async def test_simultaneous_additions_exceed_no_limit(client: Client, alice: str) -> None:
    for _ in range(18):
        await add_passkey(client, alice)
    credentials = [Authenticator().create(await creation_options(client, alice)) for _ in range(5)]
    found = await codes(*(add(client, alice, credential) for credential in credentials))
    assert found == {201: 2, "passkey_limit_reached": 3}
    assert len(await list_passkeys(client, alice)) == 20


async def test_one_of_simultaneous_additions_of_one_passkey_succeeds(
    client: Client, alice: str, bob: str
) -> None:
    authenticator = Authenticator()
    requests = [
        add(client, token, authenticator.create(await creation_options(client, token)))
        for token in (alice, bob, alice, bob)
    ]
    assert await codes(*requests) == {201: 1, "already_taken": 3}


async def test_one_of_simultaneous_additions_with_one_challenge_succeeds(
    client: Client, alice: str
) -> None:
    options = await creation_options(client, alice)
    credentials = [Authenticator().create(options) for _ in range(10)]
    found = await codes(*(add(client, alice, credential) for credential in credentials))
    assert found == {201: 1, "invalid_input": 9}


async def test_simultaneous_removals_keep_the_last_way_to_log_in(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    ids = [(await add_passkey(client, alice))[1] for _ in range(5)]
    await db.execute("update users set password_hash = null")
    found = await codes(*(client.delete(f"{PASSKEYS}/{each}", token=alice) for each in ids))
    assert found == {204: 4, "last_sign_in_method": 1}
    assert len(await list_passkeys(client, alice)) == 1


async def test_one_of_simultaneous_logins_with_one_challenge_succeeds(
    client: Client, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice, has_counter=False)
    options = await request_options(client)
    credentials = [authenticator.get(options) for _ in range(50)]
    found = await codes(*(client.post(LOGIN, {"credential": each}) for each in credentials))
    assert found == {200: 1, "challenge_invalid": 49}
    sessions = await client.get("/api/user/sessions", token=alice)
    assert len(sessions.body["sessions"]) == 2


async def test_one_of_simultaneous_logins_with_one_counter_succeeds(
    client: Client, alice: str
) -> None:
    """A copy of the authenticator has the same counter."""
    authenticator, _ = await add_passkey(client, alice)
    credentials = []
    for _ in range(10):
        authenticator.counter = 7
        credentials.append(authenticator.get(await request_options(client)))
    found = await codes(*(client.post(LOGIN, {"credential": each}) for each in credentials))
    assert found == {200: 1, "passkey_invalid": 9}
    events = await kinds_of_events(client, alice)
    assert events.count("passkey_counter_went_back") == 9


async def test_passkey_that_is_removed_during_its_login_opens_no_session(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    credential = authenticator.get(await request_options(client))
    async with db.transaction():
        await db.execute(LOCK, "alice")
        login = asyncio.create_task(client.post(LOGIN, {"credential": credential}))
        await until_blocked(db, 1)
        await db.execute("delete from passkeys")
    response = await login
    assert (response.status, response.body["code"]) == (401, "passkey_unknown")
    assert await db.fetchval("select count(*) from sessions") == 1


async def test_password_change_during_a_login_does_not_reject_it(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    credential = authenticator.get(await request_options(client))
    async with db.transaction():
        await db.execute(LOCK, "alice")
        login = asyncio.create_task(client.post(LOGIN, {"credential": credential}))
        await until_blocked(db, 1)
        await db.execute("update users set password_version = password_version + 1")
    assert (await login).status == 200


async def test_session_that_ends_during_an_addition_adds_no_passkey(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    credential = Authenticator().create(await creation_options(client, alice))
    async with db.transaction():
        await db.execute(LOCK, "alice")
        addition = asyncio.create_task(add(client, alice, credential))
        await until_blocked(db, 1)
        await db.execute("update sessions set ended_at = now(), end_reason = 'session_ended'")
    response = await addition
    assert (response.status, response.body["code"]) == (401, "token_revoked")
    assert await db.fetchval("select count(*) from passkeys") == 0
