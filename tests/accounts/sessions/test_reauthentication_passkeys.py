"""Renew the proof of a session with a passkey."""

from typing import Any

import asyncpg
import jwt
import pytest

from tests.accounts.passkeys.authenticator import Authenticator
from tests.accounts.passkeys.passkeys import (
    OPTIONS,
    PASSKEYS,
    add_passkey,
    creation_options,
    kinds_of_events,
    open_verified_account,
    request_options,
)
from tests.accounts.proofs import REQUIRES_PROOF, make_proofs_stale
from tests.conftest import Client, Device, Response
from tests.responses import assert_error

INVALID = {"passkey": ["cannot be verified"]}


@pytest.fixture
async def alice(client: Client, db: asyncpg.Connection) -> str:
    """Register Alice with a verified email, and return the token."""
    return (await open_verified_account(client, db, "alice")).access


async def reauthenticate(
    client: Client, token: str, authenticator: Authenticator, **changes: Any
) -> Response:
    credential = authenticator.get(await request_options(client), **changes)
    return await client.post("/api/auth/reauthenticate", {"credential": credential}, token=token)


async def test_passkey_is_a_fresh_proof(client: Client, db: asyncpg.Connection, alice: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    await make_proofs_stale(client, db)
    response = await client.post(OPTIONS, token=alice)
    methods = {"methods": ["password", "passkey"]}
    assert (response.status, response.body) == (403, {**REQUIRES_PROOF, **methods})
    device = Device.of(await reauthenticate(client, alice, authenticator))
    assert (await client.post(OPTIONS, token=device.access)).status == 200
    assert not await client.is_authenticated(alice)
    assert (await client.refresh(device.refresh)).status == 200
    amr = "select amr from sessions where id = $1"
    assert await db.fetchval(amr, device.session) == ["pop", "mfa"]


async def test_passkey_is_proof_of_both_factors(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    await db.execute("update users set two_factor_since = now()")
    device = Device.of(await reauthenticate(client, alice, authenticator))
    assert (await client.post(OPTIONS, token=device.access)).status == 200


async def test_user_without_a_password_deletes_their_account_after_a_passkey(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    await db.execute("update users set password_hash = null")
    await make_proofs_stale(client, db)
    device = Device.of(await reauthenticate(client, alice, authenticator))
    assert (await client.delete("/api/user", {"user": {}}, token=device.access)).status == 204
    assert await db.fetchval("select count(*) from passkeys") == 0


async def test_passkey_of_another_user_is_unknown(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    bob = (await open_verified_account(client, db, "bob")).access
    authenticator, _ = await add_passkey(client, bob)
    response = await reauthenticate(client, alice, authenticator)
    assert_error(response, 401, "passkey_unknown", {"passkey": ["is unknown"]})
    assert await client.is_authenticated(alice)


async def test_forged_response_is_rejected_and_logged(client: Client, alice: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    session = jwt.decode(alice, options={"verify_signature": False})["sid"]
    response = await reauthenticate(client, alice, authenticator, signature=b"x")
    assert_error(response, 401, "passkey_invalid", INVALID)
    authenticator.counter = 0
    response = await reauthenticate(client, alice, authenticator)
    assert_error(response, 401, "passkey_invalid", INVALID)
    events = (await client.get("/api/user/events", token=alice)).body["events"]
    assert [(event["kind"], event["session_id"]) for event in events[:2]] == [
        ("passkey_counter_went_back", session),
        ("sign_in_failed", session),
    ]


async def test_challenge_of_a_registration_is_unknown(client: Client, alice: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    options = await request_options(client)
    options["challenge"] = (await creation_options(client, alice))["challenge"]
    body = {"credential": authenticator.get(options)}
    response = await client.post("/api/auth/reauthenticate", body, token=alice)
    assert_error(response, 401, "challenge_invalid", {"challenge": ["is invalid"]})


async def test_neither_password_nor_passkey_is_invalid(client: Client, alice: str) -> None:
    response = await client.post("/api/auth/reauthenticate", {}, token=alice)
    assert_error(response, 400, "invalid_input", {"password": ["can't be blank"]})
    credentials: list[Any] = [None, "", [], {}]
    for credential in credentials:
        body = {"password": "alice-secret", "credential": credential}
        response = await client.post("/api/auth/reauthenticate", body, token=alice)
        assert (response.status, response.body["code"]) == (400, "invalid_input")


async def test_removed_passkey_is_no_method(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, passkey_id = await add_passkey(client, alice)
    assert (await client.delete(f"{PASSKEYS}/{passkey_id}", token=alice)).status == 204
    assert (await reauthenticate(client, alice, authenticator)).body["code"] == "passkey_unknown"
    await make_proofs_stale(client, db)
    assert (await client.post(OPTIONS, token=alice)).body == REQUIRES_PROOF
    assert "reauthenticated" not in await kinds_of_events(client, alice)
