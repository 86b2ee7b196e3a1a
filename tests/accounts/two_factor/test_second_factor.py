"""The second factor as proof of the person."""

import asyncpg

from service.accounts.sessions.authentication_methods import PASSWORD as PASSWORD_ONLY
from tests.accounts.proofs import set_methods_of_proofs
from tests.accounts.two_factor.authenticator_app import (
    PASSWORD,
    AuthenticatorApp,
    log_in,
    reauthenticate,
)
from tests.conftest import Client, Device
from tests.responses import assert_error, assert_invalid

NEW_EMAIL = {"user": {"email": "new@example.test"}}


async def test_proof_of_one_factor_is_not_enough(
    client: Client, enrolled: Device, db: asyncpg.Connection
) -> None:
    await set_methods_of_proofs(client, db, PASSWORD_ONLY)
    response = await client.put("/api/user", NEW_EMAIL, token=enrolled.access)
    assert (response.status, response.body["methods"]) == (403, ["password", "code"])
    user = {"user": {**NEW_EMAIL["user"], "current_password": PASSWORD}}
    assert (await client.put("/api/user", user, token=enrolled.access)).status == 403
    body = {"user": {"password": PASSWORD}}
    assert (await client.delete("/api/user", body, token=enrolled.access)).status == 403


async def test_wrong_current_password_is_rejected_also_with_fresh_proof(
    client: Client, enrolled: Device
) -> None:
    user = {"user": {**NEW_EMAIL["user"], "current_password": "wrong"}}
    response = await client.put("/api/user", user, token=enrolled.access)
    assert_error(response, 401, "invalid_credentials", {"credentials": ["invalid"]})


async def test_login_and_reauthentication_with_both_factors_are_proof(
    client: Client, enrolled: Device, app: AuthenticatorApp
) -> None:
    for device in (await log_in(client, app), await reauthenticate(client, enrolled, app)):
        assert (await client.put("/api/user", NEW_EMAIL, token=device.access)).status == 200


async def test_reauthentication_needs_the_code(client: Client, enrolled: Device) -> None:
    body = {"password": PASSWORD}
    response = await client.post("/api/auth/reauthenticate", body, token=enrolled.access)
    assert_invalid(response, 400, code="can't be blank")
    response = await client.post(
        "/api/auth/reauthenticate", {**body, "code": "12"}, token=enrolled.access
    )
    assert_error(response, 401, "code_invalid", {"code": ["is invalid"]})


async def test_wrong_codes_of_a_stolen_token_are_limited(
    client: Client, enrolled: Device, app: AuthenticatorApp
) -> None:
    body = {"password": PASSWORD, "code": app.wrong_code()}
    statuses = [
        (await client.post("/api/auth/reauthenticate", body, token=enrolled.access)).status
        for _ in range(6)
    ]
    assert statuses == [401, 401, 401, 401, 401, 429]


async def test_factor_survives_a_change_of_the_email(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    await db.execute("update users set email = 'x@example.test', email_key = 'x@example.test'")
    assert await reauthenticate(client, enrolled, app)


async def test_secret_of_another_user_cannot_be_used(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    """A ciphertext that is copied to another row does not open."""
    bob = await client.open_account("bob")
    await db.execute(
        "insert into totp_secrets (user_id, secret, is_confirmed)"
        " select users.id, totp_secrets.secret, true from users, totp_secrets"
        " where username = 'bob'"
    )
    await db.execute("update users set two_factor_since = now() where username = 'bob'")
    body = {"password": "bob-secret", "code": app.next_code()}
    response = await client.post("/api/auth/reauthenticate", body, token=bob.access)
    assert (response.status, response.body["code"]) == (503, "two_factor_unavailable")
