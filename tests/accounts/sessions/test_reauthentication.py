"""Fresh proof, the routes that require it, and its renewal."""

import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.app import ROUTES
from service.http.routes import Auth, RouteTableDef
from tests.accounts.proofs import REQUIRES_PROOF, make_proofs_stale, set_age_of_proofs
from tests.accounts.two_instances import REVOKED, TwoInstances, queries_of
from tests.conftest import Client, MakeClient, Response
from tests.responses import assert_error, assert_invalid

SECRET = "alice-secret"
NEW_PASSWORD = {"user": {"password": "another secret"}}

CHANGES_CREDENTIALS = {
    # The handler decides: it depends on the fields, and the password can be the proof.
    "PUT /api/user": "handler",
    "DELETE /api/user": "handler",
    "GET /api/user/export": "fresh",
    "POST /api/user/two-factor": "fresh",
    "DELETE /api/user/two-factor": "fresh",
    "POST /api/user/two-factor/recovery-codes": "fresh",
    "POST /api/user/passkeys/options": "fresh",
    "POST /api/user/passkeys": "fresh",
    "PATCH /api/user/passkeys/{id}": "fresh",
    "DELETE /api/user/passkeys/{id}": "fresh",
    "POST /api/user/identities/{provider}": "fresh",
    "DELETE /api/user/identities/{id}": "fresh",
}
"""The routes that change the credentials of the current user, or show everything about them, with
what demands the proof."""

CHANGES_NO_CREDENTIALS = {
    "POST /api/auth/verify-email/resend",
    "POST /api/auth/reauthenticate",
    "POST /api/auth/logout",
    "DELETE /api/user/sessions",
    "DELETE /api/user/sessions/{id}",
    "GET /api/user",
    "GET /api/user/sessions",
    "GET /api/user/events",
    "GET /api/user/two-factor",
    # Its secret was made with fresh proof.
    "POST /api/user/two-factor/confirm",
    "GET /api/user/passkeys",
    "GET /api/user/identities",
    # Its code was made with fresh proof.
    "POST /api/user/identities",
    "POST /api/auth/reauthenticate/{provider}",
}
"""The other routes of the account that require a user."""


async def reauthenticate(client: Client, token: str, password: str = SECRET) -> Response:
    return await client.post("/api/auth/reauthenticate", {"password": password}, token=token)


def test_every_route_that_changes_credentials_requires_fresh_proof() -> None:
    found, conduit = {}, ("/api/articles", "/api/profiles")
    for table in ROUTES:
        for definition in table:
            route: Any = definition
            operation = route.handler.operation
            if operation.auth is Auth.REQUIRED and not route.path.startswith(conduit):
                path = re.sub(r"{(\w+):[^}]+}", r"{\1}", route.path)
                found[f"{route.method} {path}"] = operation
    assert set(found) == set(CHANGES_CREDENTIALS) | CHANGES_NO_CREDENTIALS
    for name, demand in CHANGES_CREDENTIALS.items():
        assert found[name].fresh is (demand == "fresh"), name
        codes = {error.code for error in found[name].errors}
        assert "reauthentication_required" in codes, f"{name} does not document the error"
    source = Path("service/accounts/current_user.py").read_text(encoding="utf-8")
    assert source.count("[REQUIRE_FRESH_PROOF](user)") == 2


def test_route_without_a_user_cannot_require_fresh_proof() -> None:
    with pytest.raises(ValueError, match="must require a user"):
        RouteTableDef().get("/fresh", auth=Auth.OPTIONAL, fresh=True)


@pytest.mark.parametrize("field", [{"password": "another secret"}, {"email": "a@example.test"}])
async def test_change_of_credentials_is_rejected_when_the_proof_is_old(
    client: Client, db: asyncpg.Connection, field: dict[str, str]
) -> None:
    token = await client.register("alice")
    await make_proofs_stale(client, db)
    response = await client.put("/api/user", {"user": field}, token=token)
    assert (response.status, response.body) == (403, REQUIRES_PROOF)
    assert (await client.sign_in("alice")).access
    assert await db.fetchval("select count(*) from outbox where template = 'change_email'") == 0


async def test_profile_changes_need_no_proof(client: Client, db: asyncpg.Connection) -> None:
    token = await client.register("alice")
    await make_proofs_stale(client, db)
    user = {"email": "alice@example.test", "username": "alicia", "bio": "b", "image": None}
    assert (await client.put("/api/user", {"user": user}, token=token)).status == 200


async def test_strict_dialect_needs_no_proof(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(realworld_strict=True)
    token = await client.register("alice")
    await make_proofs_stale(client, db)
    assert (await client.put("/api/user", NEW_PASSWORD, token=token)).status == 200


async def test_current_password_is_proof_for_one_request(
    client: Client, db: asyncpg.Connection
) -> None:
    token = await client.register("alice")
    await make_proofs_stale(client, db)
    user = {"password": "another secret", "current_password": "alice-secret"}
    assert (await client.put("/api/user", {"user": user}, token=token)).status == 200
    assert await client.sign_in("alice", "another secret")
    assert (await client.put("/api/user", NEW_PASSWORD, token=token)).status == 403


async def test_current_password_alone_changes_nothing(client: Client) -> None:
    token = await client.register("alice")
    user = {"current_password": "alice-secret"}
    response = await client.put("/api/user", {"user": user}, token=token)
    assert_invalid(response, 400, user="must have at least one field to change")


async def test_wrong_current_password_counts_like_a_failed_login(
    client: Client, db: asyncpg.Connection
) -> None:
    """A stolen access token must not allow unlimited guesses, also while the proof is fresh."""
    token = await client.register("alice")
    guess = {"password": "another secret", "current_password": "wrong"}
    statuses = [
        (await client.put("/api/user", {"user": guess}, token=token)).status for _ in range(6)
    ]
    assert statuses == [401, 401, 401, 401, 401, 429]
    kinds = "select count(*) from events where kind = 'sign_in_failed'"
    assert await db.fetchval(kinds) == 5
    user = {"email": "alice@example.test", "password": "alice-secret"}
    assert (await client.post("/api/users/login", {"user": user})).status == 429


async def test_reauthentication_replaces_the_tokens_and_renews_the_proof(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await make_proofs_stale(client, db)
    response = await reauthenticate(client, device.access)
    assert response.status == 200
    assert set(response.body) == {"access_token", "token_type", "expires_in", "refresh_token"}
    new = response.body["access_token"]
    assert (await client.put("/api/user", NEW_PASSWORD, token=new)).status == 200
    old = await client.get("/api/user", token=device.access)
    assert (old.status, old.body) == (401, REVOKED)
    refreshed = await client.refresh(device.refresh)
    assert_error(refreshed, 401, "refresh_token_revoked", {"refresh_token": ["has been revoked"]})
    assert (await client.refresh(response.body["refresh_token"])).status == 200


async def test_reauthentication_keeps_the_age_of_the_session_and_is_logged(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await db.execute("update sessions set created_at = now() - interval '3 days'")
    new = (await reauthenticate(client, device.access)).body["access_token"]
    columns = "select created_at, expires_at, end_reason from sessions order by auth_time"
    ended, session = await db.fetch(columns)
    assert ended["end_reason"] == "reauthenticated"
    assert (session["created_at"], session["expires_at"]) == (
        ended["created_at"],
        ended["expires_at"],
    )
    sessions = (await client.get("/api/user/sessions", token=new)).body["sessions"]
    assert [session["current"] for session in sessions] == [True]
    event = (await client.get("/api/user/events?limit=1", token=new)).body["events"][0]
    assert (event["kind"], event["amr"]) == ("reauthenticated", ["pwd"])
    assert event["session_id"] == sessions[0]["id"]


async def test_stolen_access_token_does_not_profit_from_a_reauthentication_in_another_process(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    assert (await reauthenticate(instances.first, instances.token)).status == 200
    response = await instances.after_sync()
    assert (response.status, response.body) == (401, REVOKED)


async def test_refresh_and_current_user_do_not_renew_the_proof(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await make_proofs_stale(client, db)
    refreshed = (await client.refresh(device.refresh)).body["access_token"]
    renewed = (await client.get("/api/user", token=refreshed)).body["user"]["token"]
    for token in (refreshed, renewed):
        response = await client.put("/api/user", NEW_PASSWORD, token=token)
        assert (response.status, response.body) == (403, REQUIRES_PROOF)


async def test_fresh_proof_is_known_without_a_query(
    instances: TwoInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = queries_of(monkeypatch)
    user = {"user": {"password": "short"}}
    assert (await instances.second.put("/api/user", user, token=instances.token)).status == 400
    assert queries == []


async def test_wrong_password_of_a_reauthentication_counts_like_a_failed_login(
    client: Client,
) -> None:
    token = await client.register("alice")
    statuses = [(await reauthenticate(client, token, "wrong")).status for _ in range(6)]
    assert statuses == [401, 401, 401, 401, 401, 429]
    assert await client.is_authenticated(token)


@pytest.mark.parametrize("body", [{}, {"password": ""}, {"password": None}])
async def test_reauthentication_without_a_password_is_invalid(
    client: Client, alice: str, body: dict[str, object]
) -> None:
    response = await client.post("/api/auth/reauthenticate", body, token=alice)
    assert_invalid(response, 400, password="can't be blank")


async def test_account_without_a_password_is_deleted_with_fresh_proof_alone(
    client: Client, db: asyncpg.Connection
) -> None:
    token = await client.register("alice")
    response = await client.delete("/api/user", {"user": {}}, token=token)
    assert_invalid(response, 400, password="can't be blank")
    await db.execute("update users set password_hash = null")
    await make_proofs_stale(client, db)
    response = await client.delete("/api/user", {"user": {}}, token=token)
    assert (response.status, response.body) == (403, {**REQUIRES_PROOF, "methods": []})
    guess = {"user": {"password": "alice-secret"}}
    assert (await client.delete("/api/user", guess, token=token)).status == 401
    await set_age_of_proofs(client, db, 0)
    assert (await client.delete("/api/user", {"user": {}}, token=token)).status == 204
