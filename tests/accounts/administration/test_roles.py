"""Give roles to users, take them away, and require them on routes."""

import asyncio
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import jwt
import pytest
import voluptuous as vol
from aiohttp import web

from service.accounts.administration.roles import UnknownUser, change_roles, roles, set_roles
from service.database.change_listener import CHANGE_LISTENER
from service.database.pool import DATABASE
from service.http.app_keys import AUTHENTICATE
from service.http.bodies import read_body
from service.http.client import Client as HttpClient
from service.http.responses import json_response
from service.http.routes import RouteTableDef
from tests.accounts.account_locks import id_of, kinds_of_events
from tests.accounts.two_instances import TwoInstances, queries_of, wait_until_trusted
from tests.conftest import Client, Device, Response, until_blocked
from tests.http.conftest import Extend, extend
from tests.responses import assert_error

__all__ = ["extend"]
ADMINISTRATOR = HttpClient.at("")
ROLE_REQUIRED = {"errors": {"role": ["must be editor"]}, "code": "role_required"}

routes = RouteTableDef()


@routes.get("/editors", role="editor")
async def editors(request: web.Request) -> web.StreamResponse:
    return json_response({"roles": request["user"].roles})


@routes.post("/editors", role="editor", body=vol.Schema({}, extra=vol.REMOVE_EXTRA))
async def post(request: web.Request) -> web.StreamResponse:
    await read_body(request)
    return json_response({"roles": request["user"].roles})


@pytest.fixture
async def client(extend: Extend) -> Client:
    return await wait_until_trusted(await extend(routes, user_cache_size=100))


async def change(client: Client, user_id: UUID, **changes: list[str]) -> list[str]:
    """Change the roles of a user as a process without a cache does."""
    app = client.http.app
    assert app is not None
    changed: list[str] = await app[DATABASE].transact(
        partial(change_roles, client=ADMINISTRATOR, user_id=user_id, **changes)
    )
    return changed


async def ask(client: Client, token: str) -> tuple[int, Any]:
    """Return the status and the body of the route for editors, after every known change."""
    await client.http.app[CHANGE_LISTENER].wait_until_applied()
    response = await client.get("/editors", token=token)
    return response.status, response.body


def claim_of(token: str) -> Any:
    return jwt.decode(token, options={"verify_signature": False}).get("roles")


async def test_route_with_a_role_admits_only_users_who_have_it(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await client.register("alice"), await client.register("bob")
    assert await ask(client, alice) == (403, ROLE_REQUIRED)
    user_id = await id_of(db)
    await change(client, user_id, add=["editor", "author"])
    assert await ask(client, alice) == (200, {"roles": ["author", "editor"]})
    assert await ask(client, bob) == (403, ROLE_REQUIRED)
    queries = queries_of(monkeypatch)
    assert await ask(client, alice) == (200, {"roles": ["author", "editor"]})
    assert queries == []
    await change(client, user_id, remove=["editor"])
    assert await ask(client, alice) == (403, ROLE_REQUIRED)
    response = await client.get("/editors")
    assert_error(response, 401, "token_missing", {"token": ["is missing"]})


async def test_role_is_lost_while_the_body_arrives(client: Client, db: asyncpg.Connection) -> None:
    token = await client.register("alice")
    user_id = await id_of(db)
    await change(client, user_id, add=["editor"])
    assert (await ask(client, token))[0] == 200

    async def slow_body() -> Any:
        yield b"{"
        await change(client, user_id, remove=["editor"])
        await client.http.app[CHANGE_LISTENER].wait_until_applied()
        yield b"}"

    headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
    async with client.http.post("/editors", data=slow_body(), headers=headers) as received:
        assert (received.status, await received.json()) == (403, ROLE_REQUIRED)


async def test_role_that_was_taken_away_is_gone_in_another_process(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    user_id = await id_of(db)

    async def seen() -> tuple[str, ...]:
        """Return the roles that the second instance sees, which has cached the user."""
        assert (await instances.after_sync()).status == 200
        app = instances.second.http.app
        user = await app[AUTHENTICATE](instances.token)
        return tuple(user.roles)

    await change(instances.first, user_id, add=["editor"])
    assert await seen() == ("editor",)
    await change(instances.first, user_id, remove=["editor"])
    assert await seen() == ()


async def test_every_new_token_has_the_current_roles(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    assert claim_of(device.access) is None
    user_id = await id_of(db)
    await change(client, user_id, add=["editor", "a.b:c_d-e"])
    await client.http.app[CHANGE_LISTENER].wait_until_applied()
    current: list[Response | Device] = [
        await client.sign_in("alice"),
        await client.get("/api/user", token=device.access),
        await client.refresh(device.refresh),
        await client.post(
            "/api/auth/reauthenticate", {"password": "alice-secret"}, token=device.access
        ),
    ]
    for given in current:
        if isinstance(given, Device):
            token = given.access
        else:
            token = given.body.get("access_token") or given.body["user"]["token"]
        assert claim_of(token) == ["a.b:c_d-e", "editor"]
    await change(client, user_id, remove=["editor", "a.b:c_d-e"])
    assert claim_of((await client.sign_in("alice")).access) is None


async def test_only_changes_are_logged(client: Client, db: asyncpg.Connection) -> None:
    await client.register("alice")
    user_id = await id_of(db)
    assert await change(client, user_id, add=["b", "a"]) == ["a", "b"]
    assert await change(client, user_id, add=["a"], remove=["c"]) == ["a", "b"]
    set_to_b = partial(set_roles, client=ADMINISTRATOR, user_id=user_id, wanted=["b", "b"])
    for _ in range(2):
        assert await client.http.app[DATABASE].transact(set_to_b) == ["b"]
    assert await kinds_of_events(db) == ["registered", "roles_changed", "roles_changed"]


async def test_simultaneous_changes_are_both_kept(
    client: Client, db: asyncpg.Connection, database_url: str
) -> None:
    await client.register("alice")
    user_id = await id_of(db)
    first = await asyncpg.connect(database_url)
    transaction = first.transaction()
    await transaction.start()
    await change_roles(first, ADMINISTRATOR, user_id, add=["first"])
    second = asyncio.create_task(change(client, user_id, add=["second"]))
    await until_blocked(db, 1)
    await transaction.commit()
    await first.close()
    assert await second == ["first", "second"]
    assert await change(client, user_id) == ["first", "second"]


async def test_closed_account_has_no_roles(client: Client, db: asyncpg.Connection) -> None:
    token = await client.register("alice")
    user_id = await id_of(db)
    await change(client, user_id, add=["editor"])
    body = {"user": {"password": "alice-secret"}}
    assert (await client.delete("/api/user", body, token=token)).status == 204
    with pytest.raises(UnknownUser):
        await change(client, user_id, add=["editor"])
    assert await db.fetch("select from users where roles <> '{}'") == []


TOO_MANY = [f"role{number}" for number in range(21)]
INVALID = {
    "null": None,
    "a text": "editor",
    "a number in the list": [1],
    "an empty name": [""],
    "a capital letter": ["Editor"],
    "a quote": ['a"b'],
    "a final line break": ["editor\n"],
    "a name of 51 characters": ["a" * 51],
    "too many": TOO_MANY,
}


@pytest.mark.parametrize("value", INVALID.values(), ids=INVALID)
def test_invalid_roles_are_rejected(value: Any) -> None:
    with pytest.raises(vol.Invalid):
        roles(value)


def test_roles_are_sorted_and_unique() -> None:
    longest = "a" * 50
    assert roles(["b", longest, "b"]) == [longest, "b"]


async def test_database_rejects_what_the_validator_rejects(
    client: Client, db: asyncpg.Connection
) -> None:
    """A claim of an access token contains the roles without escaping."""
    await client.register("alice")
    for value in (['a"b'], ["a b"], ["é"], ["editor\n"], [""], [None], ["a" * 51], TOO_MANY):
        with pytest.raises(asyncpg.CheckViolationError, match="users_roles_check"):
            await db.execute("update users set roles = $1", value)
    with pytest.raises(vol.Invalid):
        await change(client, await id_of(db), add=TOO_MANY)
