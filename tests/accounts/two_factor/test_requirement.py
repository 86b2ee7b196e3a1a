"""``REQUIRE_TWO_FACTOR``: an account without a second factor reaches nothing but its set-up."""

import asyncpg
import pytest

from tests.accounts.two_factor.authenticator_app import (
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
    ("POST", "/api/auth/logout"),
    ("POST", "/api/auth/reauthenticate"),
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
        response = await client.send(route.method, path.replace("{", "").replace("}", ""), {})
        assert response.status == 401
        if (route.method, path) in SETUP:
            continue
        response = await client.send(
            route.method, path.replace("{", "").replace("}", ""), {}, token=token
        )
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
