"""Log in with a passkey."""

from typing import Any

import asyncpg
import jwt
import pytest

from service.settings.rate_limit import Limit
from tests.accounts.logins import login
from tests.accounts.mailed_links import client_without_delivery
from tests.accounts.passkeys.authenticator import Authenticator
from tests.accounts.passkeys.passkeys import (
    LOGIN,
    PASSKEYS,
    add_passkey,
    kinds_of_events,
    list_passkeys,
    log_in,
    open_verified_account,
    request_options,
)
from tests.conftest import Client, Device, MakeClient
from tests.responses import assert_error

INVALID_CHALLENGE = {"challenge": ["is invalid"]}


async def test_login_opens_a_session_with_two_factors(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    response = await log_in(client, authenticator)
    device = Device.of(response)
    assert response.body == {
        "user": {
            "email": "alice@example.test",
            "token": device.access,
            "username": "alice",
            "bio": "",
            "image": None,
        },
        "refresh_token": device.refresh,
        "expires_in": 86_400,
    }
    assert jwt.decode(device.access, options={"verify_signature": False})["sid"] == device.session
    assert await client.is_authenticated(device.access)
    assert (await client.refresh(device.refresh)).status == 200
    amr = "select amr from sessions where id = $1"
    assert await db.fetchval(amr, device.session) == ["pop", "mfa"]
    events = (await client.get("/api/user/events", token=alice)).body["events"]
    signed_in = next(event for event in events if event["kind"] == "signed_in")
    assert (signed_in["amr"], signed_in["session_id"]) == (["pop", "mfa"], device.session)


async def test_login_is_a_fresh_proof(client: Client, alice: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    device = Device.of(await log_in(client, authenticator))
    await add_passkey(client, device.access)


@pytest.mark.parametrize("algorithm", [-7, -8, -257])
async def test_passkey_of_each_algorithm_logs_in(
    client: Client, alice: str, algorithm: int
) -> None:
    authenticator, _ = await add_passkey(client, alice, algorithm=algorithm)
    for _ in range(2):
        assert (await log_in(client, authenticator)).status == 200


async def test_passkey_logs_in_the_user_who_has_it(client: Client, alice: str, bob: str) -> None:
    authenticators = {
        "alice": (await add_passkey(client, alice))[0],
        "bob": (await add_passkey(client, bob))[0],
    }
    for name, authenticator in authenticators.items():
        response = await log_in(client, authenticator)
        assert response.body["user"]["username"] == name


async def test_foreign_user_handle_is_rejected(client: Client, alice: str, bob: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    other, _ = await add_passkey(client, bob)
    for handle in (other.user_handle, None, b"x", bytes(16), b"x" * 64):
        response = await log_in(client, authenticator, user_handle=handle)
        assert_error(response, 401, "passkey_invalid", {"passkey": ["cannot be verified"]})
    assert (await kinds_of_events(client, alice))[:5] == ["sign_in_failed"] * 5
    assert "sign_in_failed" not in await kinds_of_events(client, bob)
    assert (await log_in(client, authenticator)).status == 200


async def test_passkey_of_another_user_with_the_id_of_this_one_is_rejected(
    client: Client, alice: str, bob: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    thief, _ = await add_passkey(client, bob)
    thief.id = authenticator.id
    response = await log_in(client, thief, user_handle=authenticator.user_handle)
    assert_error(response, 401, "passkey_invalid", {"passkey": ["cannot be verified"]})


FORGERIES: dict[str, dict[str, Any]] = {
    "another origin": {"origin": "http://localhost:3001"},
    "another domain": {"rp_id": "elsewhere.example"},
    "the type of a registration": {"type": "webauthn.create"},
    "an embedded page": {"crossOrigin": True},
    "without user verification": {"flags": 0x01},
    "without user presence": {"flags": 0x04},
    "a wrong signature": {"signature": bytes(64)},
    "bytes after the data": {"tail": b"\0"},
}


@pytest.mark.parametrize("changes", FORGERIES.values(), ids=FORGERIES)
async def test_forged_response_is_rejected(
    client: Client, db: asyncpg.Connection, alice: str, changes: dict[str, Any]
) -> None:
    """``test_ceremonies.py`` has every forgery. These arrive as 401 and in the security log."""
    authenticator, _ = await add_passkey(client, alice)
    response = await log_in(client, authenticator, **changes)
    assert_error(response, 401, "passkey_invalid", {"passkey": ["cannot be verified"]})
    assert (await kinds_of_events(client, alice))[0] == "sign_in_failed"
    assert await db.fetchval("select count(*) from sessions") == 1


async def test_unknown_passkey_is_rejected(client: Client, alice: str) -> None:
    await add_passkey(client, alice)
    response = await log_in(client, Authenticator(user_handle=b"x"))
    assert_error(response, 401, "passkey_unknown", {"passkey": ["is unknown"]})


async def test_passkey_of_a_deleted_account_is_unknown(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    deletion = {"user": {"password": "alice-secret"}}
    assert (await client.delete("/api/user", deletion, token=alice)).status == 204
    assert await db.fetchval("select count(*) from passkeys") == 0
    response = await log_in(client, authenticator)
    assert_error(response, 401, "passkey_unknown", {"passkey": ["is unknown"]})


@pytest.mark.parametrize(
    "body",
    [{}, {"credential": None}, {"credential": []}, {"credential": {}}, {"credential": "x"}],
    ids=str,
)
async def test_body_without_a_credential_is_invalid(client: Client, body: object) -> None:
    response = await client.post(LOGIN, body)
    assert (response.status, response.body["code"]) == (400, "invalid_input")


async def test_credential_of_a_megabyte_is_invalid(client: Client) -> None:
    credential = Authenticator(user_handle=b"x").get(await request_options(client))
    credential["response"]["authenticatorData"] = "A" * 900_000
    response = await client.post(LOGIN, {"credential": credential})
    assert (response.status, response.body["code"]) == (400, "invalid_input")


async def test_login_forgets_no_failure_of_a_password(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(login_limits=(Limit(3, 900), Limit(50, 900), Limit(50, 3600)))
    alice = (await open_verified_account(client, db, "alice")).access
    authenticator, _ = await add_passkey(client, alice)
    for _ in range(2):
        assert (await login(client, "alice")).status == 401
    assert (await log_in(client, authenticator)).status == 200
    assert (await login(client, "alice")).status == 401
    assert (await login(client, "alice", "alice-secret")).status == 429
    # The lockout of the password does not concern the passkey.
    assert (await log_in(client, authenticator)).status == 200


async def test_failed_logins_lock_nothing(client: Client, alice: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    for _ in range(6):
        assert (await log_in(client, authenticator, signature=b"x")).status == 401
    assert (await login(client, "alice", "alice-secret")).status == 200
    assert (await log_in(client, authenticator)).status == 200


async def test_login_is_rejected_while_the_email_must_be_verified(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client)
    alice = (await open_verified_account(client, db, "alice")).access
    authenticator, _ = await add_passkey(client, alice)
    strict = await make_client(require_verified_email=True)
    await db.execute("update users set email_verified_at = null")
    authenticator.origin = "http://localhost:3000"
    response = await log_in(strict, authenticator)
    assert_error(
        response,
        403,
        "email_not_verified",
        {"email": ["is not verified: use the link in the mail"]},
    )
    assert (await kinds_of_events(client, alice))[0] == "sign_in_denied"
    assert await db.fetchval("select count(*) from sessions") == 1


async def test_login_over_the_session_limit_is_rejected(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(session_limit=1, session_limit_policy="deny")
    alice = (await open_verified_account(client, db, "alice")).access
    authenticator, _ = await add_passkey(client, alice)
    response = await log_in(client, authenticator)
    assert_error(response, 403, "session_limit_reached", {"session": ["limit reached"]})


async def test_login_after_a_password_change_succeeds(client: Client, alice: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    change = {"user": {"password": "another secret"}}
    assert (await client.put("/api/user", change, token=alice)).status == 200
    assert (await log_in(client, authenticator)).status == 200


async def test_login_without_a_password_succeeds(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, passkey_id = await add_passkey(client, alice)
    await db.execute("update users set password_hash = null")
    device = Device.of(await log_in(client, authenticator))
    assert [each["id"] for each in await list_passkeys(client, device.access)] == [passkey_id]
    assert (await client.delete(f"{PASSKEYS}/{passkey_id}", token=device.access)).status == 409


async def test_login_needs_no_second_factor(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    await db.execute("update users set two_factor_since = now()")
    assert (await login(client, "alice", "alice-secret")).body["code"] == "two_factor_required"
    device = Device.of(await log_in(client, authenticator))
    # The session has proof of both factors.
    await add_passkey(client, device.access)
