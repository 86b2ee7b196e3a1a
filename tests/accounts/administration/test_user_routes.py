"""Accounts in the HTTP API of administrators: what it shows, what it changes, what it refuses."""

import asyncio
import re
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from service.accounts.administration.api_keys import Scope, revoke_key
from service.app import ROUTES
from service.http.routes import Auth
from tests.accounts.account_locks import id_of
from tests.accounts.administration.administrators import Administrator, database_of
from tests.accounts.logins import login
from tests.accounts.mailed_links import client_without_delivery, last_token
from tests.accounts.passkeys.passkeys import add_passkey
from tests.accounts.two_factor.authenticator_app import AuthenticatorApp, turn_on, verify_email
from tests.accounts.two_instances import REVOKED, TwoInstances
from tests.conftest import Client, MakeClient
from tests.responses import assert_error, assert_invalid


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


@pytest.fixture
async def administrator(client: Client) -> Administrator:
    return await Administrator.create(client)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> AuthenticatorApp:
    return AuthenticatorApp(monkeypatch)


async def acts(db: asyncpg.Connection) -> list[tuple[str, str, str]]:
    """Return the kind, the actor and the IP address of all acts, the oldest first."""
    rows = await db.fetch("select kind, actor, ip from events where actor is not null order by id")
    return [(row["kind"], row["actor"], row["ip"]) for row in rows]


def administration() -> list[tuple[str, str, Scope]]:
    """Return method, path and scope of each route for administrators."""
    found = []
    for table in ROUTES:
        for definition in table:
            route: Any = definition
            if route.path.startswith("/api/admin"):
                assert route.handler.operation.auth is Auth.KEY
                found.append((route.method, route.path, route.handler.operation.scope))
    return found


def with_ids(path: str, identifier: str) -> str:
    return re.sub(r"{\w+}", identifier, path).removeprefix("/api/admin")


BODY = {"email": "alice@example.test", "roles": []}


@pytest.mark.parametrize(("method", "path", "scope"), administration())
async def test_route_is_refused_without_a_valid_key_that_has_its_scope(
    client: Client, method: str, path: str, scope: Scope
) -> None:
    token = await client.register("alice")
    others = await Administrator.create(client, *(set(Scope) - {scope}), name="others")
    revoked = await Administrator.create(client, name="revoked")
    await revoke_key(database_of(client), "revoked")
    path = with_ids(path, str(uuid4()))
    response = await client.send(method, f"/api/admin{path}", BODY)
    assert_error(response, 401, "key_missing", {"key": ["is missing"]})
    response = await client.send(method, f"/api/admin{path}", BODY, token=token)
    assert (response.status, response.body["code"]) == (401, "key_invalid")
    response = await revoked.send(method, path, BODY)
    assert_error(response, 401, "key_invalid", {"key": ["is invalid"]})
    response = await others.send(method, path, BODY)
    assert_error(response, 403, "scope_required", {"key": [f"does not have the scope {scope}"]})
    assert await client.is_authenticated(token)


@pytest.mark.parametrize("identifier", ["1", "%00", "a" * 300, "%27or%201=1", str(UUID(int=1))])
async def test_unknown_id_is_404(administrator: Administrator, identifier: str) -> None:
    for method, path, _ in administration():
        is_log = path.endswith("/events") and len(identifier) == 36
        if "{id}" in path and not is_log:
            response = await administrator.send(method, with_ids(path, identifier), BODY)
            subject = "session" if "{session_id}" in path and len(identifier) == 36 else "user"
            assert_error(response, 404, "not_found", {subject: ["not found"]})


async def test_no_route_makes_or_shows_keys(administrator: Administrator) -> None:
    for method in ("GET", "POST", "DELETE"):
        for path in ("/keys", "/api-keys", "/keys/backoffice"):
            response = await administrator.send(
                method, path, {"name": "a", "scopes": ["users:read"]}
            )
            assert_error(response, 404, "not_found", {"path": ["not found"]})


async def test_list_has_pages_filters_and_names(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    for name in ("alice", "bob", "carol"):
        await client.register(name)
    first = (await administrator.get("/users?limit=2")).body
    assert [user["username"] for user in first["users"]] == ["carol", "bob"]
    second = (await administrator.get(f"/users?limit=2&after={first['next_after']}")).body
    assert [user["username"] for user in second["users"]] == ["alice"]
    assert second["next_after"] is None
    await administrator.post(f"/users/{await id_of(db, 'bob')}/lock")
    for query, expected in {
        "name=BOB@example.test": ["bob"],
        "name=Alice": ["alice"],
        f"name={second['users'][0]['id']}": ["alice"],
        "name=nobody": [],
        "text=ARO": ["carol"],
        "locked=true": ["bob"],
        "locked=false": ["carol", "alice"],
        "verified=true": [],
    }.items():
        body = (await administrator.get(f"/users?{query}")).body
        assert [user["username"] for user in body["users"]] == expected, query


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("limit=1000000000", {"limit": "must be at most 100"}),
        ("limit=-1", {"limit": "must be at least 1"}),
        ("after=x", {"after": "is no place in the list"}),
        ("after=%00", {"after": "has a character that is not allowed"}),
        (f"after={'9' * 18}.{UUID(int=0)}", {"after": "is no place in the list"}),
        ("locked=1", {"locked": "must be true or false"}),
        ("name=%00", {"name": "has a character that is not allowed"}),
        ("text=a&text=b", {"text": "must be given once"}),
    ],
)
async def test_invalid_list_is_rejected(
    administrator: Administrator, query: str, error: dict[str, str]
) -> None:
    assert_invalid(await administrator.get(f"/users?{query}"), 400, **error)


async def test_account_is_shown_without_secrets(
    client: Client, administrator: Administrator, db: asyncpg.Connection, app: AuthenticatorApp
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    await add_passkey(client, device.access)
    await turn_on(client, device, app)
    user_id = await id_of(db)
    await administrator.post(f"/users/{user_id}/reset-password")
    user = (await administrator.get(f"/users/{user_id}")).body["user"]
    assert (user["id"], user["email"]) == (str(user_id), "alice@example.test")
    assert user["two_factor_since"] is not None and user["recovery_codes_left"] == 10
    assert user["sign_in_methods"]["password"] is True
    assert len(user["sign_in_methods"]["passkeys"]) == 1
    paths = ("/users", f"/users/{user_id}/sessions", f"/users/{user_id}/events", "/events")
    pages = [(await administrator.get(path)).body for path in paths]
    shown = orjson.dumps([user, *pages]).decode()
    assert "alice@example.test" in shown
    secrets = ["$2b$", "conduit_key_", "digest", "public_key", "otpauth", device.refresh]
    for table, column in (
        ("refresh_tokens", "digest"),
        ("one_time_tokens", "digest"),
        ("api_keys", "digest"),
        ("recovery_codes", "digest"),
        ("passkeys", "public_key"),
    ):
        rows = await db.fetch(f"select {column} from {table}")  # noqa: S608
        assert rows, table
        secrets += [row[column].hex() for row in rows]
    assert [secret for secret in secrets if secret in shown] == []


async def test_lock_is_effective_at_once_in_every_process_and_logged_with_the_key(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    administrator = await Administrator.create(instances.first)
    path = f"/users/{await id_of(db)}"
    for act, changed in (("lock", True), ("lock", False), ("unlock", True), ("unlock", False)):
        response = await administrator.post(f"{path}/{act}")
        assert (response.status, response.body) == (200, {"changed": changed})
        # The process that has responded rejects the token from the next request on.
        rejected = await instances.first.get("/api/user", token=instances.token)
        assert (rejected.status, rejected.body) == (401, REVOKED)
    assert (await instances.after_sync()).body == REVOKED
    assert await acts(db) == [
        ("account_locked", "backoffice", "127.0.0.1"),
        ("session_ended", "backoffice", "127.0.0.1"),
        ("account_unlocked", "backoffice", "127.0.0.1"),
    ]


async def test_verification_needs_the_current_email(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    await client.register("alice")
    path = f"/users/{await id_of(db)}/verify-email"
    response = await administrator.post(path, {"email": "alice@example.com"})
    assert_error(response, 404, "not_found", {"email": ["not found"]})
    assert_invalid(await administrator.post(path, {}), 400, email="can't be blank")
    for changed in (True, False):
        response = await administrator.post(path, {"email": "alice@example.test"})
        assert (response.status, response.body) == (200, {"changed": changed})
    assert await acts(db) == [("email_verified", "backoffice", "127.0.0.1")]


async def test_reset_mails_a_link_and_the_owner_chooses_the_password(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    await client.register("alice")
    path = f"/users/{await id_of(db)}"
    # A password in the request is ignored.
    response = await administrator.post(f"{path}/reset-password", {"password": "chosen secret"})
    assert (response.status, response.body) == (200, {"email": "alice@example.test"})
    assert await client.sign_in("alice")
    token = await last_token(db, "alice@example.test", "reset_password")
    body = {"token": token, "new_password": "a new secret"}
    assert (await client.post("/api/auth/reset-password", body)).status == 200
    assert await client.sign_in("alice", "a new secret")
    assert await acts(db) == [("password_reset_requested", "backoffice", "127.0.0.1")]
    await administrator.post(f"{path}/lock")
    response = await administrator.post(f"{path}/reset-password")
    assert_error(response, 403, "account_locked", {"account": ["is locked"]})


async def test_reset_ends_the_password_and_the_sessions_if_it_is_asked_to(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    path = f"/users/{await id_of(db)}/reset-password?revoke_password="
    assert_invalid(
        await administrator.post(f"{path}1"), 400, revoke_password="must be true or false"
    )
    assert (await administrator.post(f"{path}false")).status == 200
    assert await client.is_authenticated(device.access)
    assert (await administrator.post(f"{path}true")).status == 200
    assert not await client.is_authenticated(device.access)
    assert (await login(client, "alice", "alice-secret")).body["code"] == "invalid_credentials"
    kinds = [kind for kind, *_ in await acts(db)]
    assert kinds.count("password_revoked") == 1


async def test_second_factor_is_turned_off(
    client: Client, administrator: Administrator, db: asyncpg.Connection, app: AuthenticatorApp
) -> None:
    device = await client.open_account("alice")
    await verify_email(db)
    await turn_on(client, device, app)
    path = f"/users/{await id_of(db)}/two-factor"
    for changed in (True, False):
        response = await administrator.delete(path)
        assert (response.status, response.body) == (200, {"changed": changed})
    assert await client.sign_in("alice")
    assert ("two_factor_disabled", "backoffice", "127.0.0.1") in await acts(db)


async def test_roles_are_replaced(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    await client.register("alice")
    path = f"/users/{await id_of(db)}/roles"
    for roles in (["editor", "admin"], ["admin"], []):
        response = await administrator.put(path, {"roles": roles})
        assert (response.status, response.body) == (200, {"roles": sorted(roles)})
    assert await acts(db) == [("roles_changed", "backoffice", "127.0.0.1")] * 3
    for invalid in (None, "admin", [1], ["A b"], ["a"] * 21):
        response = await administrator.put(path, {"roles": invalid})
        assert (response.status, [*response.body["errors"]]) == (400, ["roles"])


async def test_deleted_account_is_gone_and_its_log_stays(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    token = await client.register("alice")
    path = f"/users/{await id_of(db)}"
    assert (await administrator.delete(path)).status == 204
    assert (await client.get("/api/user", token=token)).status == 401
    assert (await administrator.get("/users")).body["users"] == []
    for again in (await administrator.delete(path), await administrator.get(path)):
        assert_error(again, 404, "not_found", {"user": ["not found"]})
    (deleted, _) = (await administrator.get(f"{path}/events")).body["events"]
    assert (deleted["kind"], deleted["actor"]) == ("account_deleted", "backoffice")


async def test_of_simultaneous_acts_one_changes_the_account(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    await client.register("alice")
    path = f"/users/{await id_of(db)}"
    locks = await asyncio.gather(*(administrator.post(f"{path}/lock") for _ in range(5)))
    assert sorted(response.body["changed"] for response in locks) == [False] * 4 + [True]
    deletions = await asyncio.gather(*(administrator.delete(path) for _ in range(5)))
    assert sorted(response.status for response in deletions) == [204] + [404] * 4
    kinds = [kind for kind, _, _ in await acts(db)]
    assert kinds == ["account_locked", "session_ended", "account_deleted"]


async def test_started_resets_of_one_account_are_limited(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    for name in ("alice", "bob"):
        await client.register(name)
    path = f"/users/{await id_of(db)}/reset-password"
    responses = await asyncio.gather(*(administrator.post(path) for _ in range(15)))
    assert sorted(response.status for response in responses) == [200] * 10 + [429] * 5
    rejected = await administrator.post(path)
    assert_error(rejected, 429, "too_many_attempts", {"email": ["too many attempts"]})
    assert 1 <= int(rejected.headers["Retry-After"]) <= 3600
    mails = await db.fetchval("select count(*) from outbox where template = 'reset_password'")
    assert (mails, len(await acts(db))) == (10, 10)
    response = await administrator.post(f"/users/{await id_of(db, 'bob')}/reset-password")
    assert response.status == 200
