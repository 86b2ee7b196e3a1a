"""``REQUIRE_TWO_FACTOR``: an account without a second factor reaches nothing but its set-up."""

import re
from uuid import UUID

import asyncpg
import pytest

from service.accounts.sessions.authentication_methods import PASSKEY
from tests.accounts.proofs import set_methods_of_proofs
from tests.accounts.two_factor.authenticator_app import (
    PASSWORD,
    TWO_FACTOR,
    AuthenticatorApp,
    log_in,
    turn_on,
    verify_email,
)
from tests.conftest import Client, MakeClient
from tests.responses import assert_error

SETUP = {
    ("GET", "/api/user"),
    ("GET", "/api/user/two-factor"),
    ("POST", "/api/user/two-factor"),
    ("POST", "/api/user/two-factor/confirm"),
    ("GET", "/api/user/passkeys"),
    ("POST", "/api/user/passkeys/options"),
    ("POST", "/api/user/passkeys"),
    ("POST", "/api/auth/logout"),
    ("POST", "/api/auth/reauthenticate"),
    ("POST", "/api/auth/reauthenticate/{provider}"),
    ("POST", "/api/auth/verify-email/resend"),
}
"""The routes that an account without a second factor may use."""


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client(require_two_factor=True)


async def test_account_without_a_factor_reaches_only_its_set_up(client: Client) -> None:
    token = await client.register("alice")
    app = client.http.app
    assert app is not None
    for route in app.router.routes():
        operation = getattr(route.handler, "operation", None)
        if operation is None or operation.auth.value != "required" or route.method == "HEAD":
            continue
        assert route.resource is not None
        path = route.resource.canonical
        url = re.sub(r"{\w+}", str(UUID(int=0)), path)
        assert (await client.send(route.method, url, {})).status == 401
        if (route.method, path) in SETUP:
            continue
        response = await client.send(route.method, url, {}, token=token)
        assert_error(
            response, 403, "two_factor_setup_required", {"two_factor": ["must be set up first"]}
        )
    assert (await client.get("/api/user", token=token)).status == 200


async def test_account_without_a_factor_is_anonymous_where_a_user_is_optional(
    client: Client,
) -> None:
    token = await client.register("alice")
    assert (await client.get("/api/articles", token=token)).status == 200
    profile = (await client.get("/api/profiles/alice", token=token)).body["profile"]
    assert profile["following"] is False


async def test_account_with_a_factor_reaches_everything(
    client: Client, db: asyncpg.Connection, app: AuthenticatorApp
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    await turn_on(client, device, app)
    for access in (device.access, (await log_in(client, app)).access):
        assert (await client.get("/api/user/sessions", token=access)).status == 200


@pytest.mark.parametrize("path", [TWO_FACTOR, "/api/user/passkeys/options"])
async def test_password_alone_adds_no_factor_to_an_account_with_a_passkey(
    client: Client, db: asyncpg.Connection, path: str
) -> None:
    """Otherwise it would be enough to reach everything: with a factor of the thief."""
    device = await client.open_account("alice")
    await verify_email(db)
    body = {"password": PASSWORD}
    assert (await client.post(path, body, token=device.access)).status == 200
    await db.execute(
        "insert into passkeys (user_id, credential_id, public_key, sign_count, transports, name)"
        " select id, 'x', 'x', 0, '{}', 'x' from users"
    )
    response = await client.post(path, body, token=device.access)
    assert (response.status, response.body["code"]) == (403, "reauthentication_required")
    assert response.body["methods"] == ["passkey"]


async def test_passkey_of_a_login_is_proof_for_another_factor(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    await set_methods_of_proofs(client, db, PASSKEY)
    body = {"password": PASSWORD}
    assert (await client.post(TWO_FACTOR, body, token=device.access)).status == 200
