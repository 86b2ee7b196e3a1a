"""Introspection: whether an access token is valid, for other services."""

from functools import partial
from typing import Any

import asyncpg
import pytest

from service.accounts.administration.api_keys import create_key, revoke_key
from service.accounts.administration.roles import set_roles
from service.database.pool import DATABASE
from tests.accounts.account_locks import ADMINISTRATOR, id_of, lock
from tests.accounts.sessions.keys_of_tokens import ALGORITHMS, claims_of
from tests.accounts.two_instances import TwoInstances
from tests.conftest import Client, MakeClient, Response
from tests.responses import assert_error

PATH = "/api/auth/introspect"
INACTIVE = {"active": False}
FORM = "application/x-www-form-urlencoded"


async def key_of(client: Client, *scopes: str) -> str:
    app = client.http.app
    assert app is not None
    return await create_key(app[DATABASE], "api", scopes or ("tokens:introspect",))


async def send(client: Client, key: str | None, data: Any, **options: Any) -> Response:
    headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
    headers |= options.pop("headers", {})
    return await client.send("POST", PATH, data=data, headers=headers, **options)


async def introspect(client: Client, key: str, token: str) -> Any:
    response = await send(client, key, {"token": token})
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    return response.body


@pytest.mark.parametrize("algorithm", ["HS256", *ALGORITHMS])
async def test_valid_token_is_active_with_its_user(
    make_client: MakeClient, db: asyncpg.Connection, algorithm: str
) -> None:
    client = await make_client(token_algorithm=algorithm, base_url="https://accounts.example.org")
    token = await client.register("alice")
    claims = claims_of(token)
    key = await key_of(client)
    expected = {
        "active": True,
        "sub": claims["sub"],
        "sid": claims["sid"],
        "username": "alice",
        "roles": [],
        "exp": claims["exp"],
        "iss": "https://accounts.example.org",
    }
    assert await introspect(client, key, token) == expected
    user_id = await id_of(db)
    app = client.http.app
    assert app is not None
    give = partial(set_roles, client=ADMINISTRATOR, user_id=user_id, wanted=["editor"])
    await app[DATABASE].transact(give)
    assert await introspect(client, key, token) == {**expected, "roles": ["editor"]}
    response = await send(client, key, {"token": token, "token_type_hint": "refresh_token"})
    assert response.body["active"] is True


async def test_every_other_token_is_only_inactive(client: Client, db: asyncpg.Connection) -> None:
    device = await client.open_account("alice")
    key = await key_of(client)
    changed = (f"{device.access}x", f"Token {device.access}")
    for token in (device.refresh, key, "x", "a" * 8000, *changed):
        assert await introspect(client, key, token) == INACTIVE
    await client.post("/api/auth/logout", token=device.access)
    assert await introspect(client, key, device.access) == INACTIVE
    token = (await client.sign_in("alice")).access
    assert (await introspect(client, key, token))["active"]
    await lock(client, await id_of(db))
    assert await introspect(client, key, token) == INACTIVE


async def test_ended_session_is_inactive_also_where_the_notification_was_lost(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    key = await key_of(instances.second)
    assert (await introspect(instances.second, key, instances.token))["active"]
    # Triggers do not fire.
    await db.execute("set session_replication_role = replica")
    await db.execute("update sessions set ended_at = now(), end_reason = 'signed_out'")
    await db.execute("set session_replication_role = origin")
    assert await instances.second.is_authenticated(instances.token)
    assert await introspect(instances.second, key, instances.token) == INACTIVE


async def test_token_without_a_required_second_factor_is_inactive(make_client: MakeClient) -> None:
    client = await make_client(require_two_factor=True)
    token = await client.register("alice")
    assert await client.is_authenticated(token)
    assert await introspect(client, await key_of(client), token) == INACTIVE


async def test_introspection_requires_a_key_with_its_scope(client: Client, alice: str) -> None:
    app = client.http.app
    assert app is not None
    response = await send(client, None, {"token": alice})
    assert_error(response, 401, "key_missing", {"key": ["is missing"]})
    other = await create_key(app[DATABASE], "other", ["users:read", "users:write"])
    response = await send(client, other, {"token": alice})
    message = "does not have the scope tokens:introspect"
    assert_error(response, 403, "scope_required", {"key": [message]})
    key = await key_of(client)
    assert (await introspect(client, key, alice))["active"]
    await revoke_key(app[DATABASE], "api")
    response = await send(client, key, {"token": alice})
    assert_error(response, 401, "key_invalid", {"key": ["is invalid"]})


async def test_introspection_rejects_what_is_no_form_with_one_token(
    client: Client, alice: str
) -> None:
    key = await key_of(client)
    blank, no_string = {"token": ["can't be blank"]}, {"token": ["must be a string"]}
    malformed = {"body": ["is not a valid form"]}
    no_form = {"body": [f"must be a form ({FORM})"]}
    for data, kind, errors in (
        ("", FORM, blank),
        ("token=", FORM, blank),
        ("other=x", FORM, blank),
        (f"token={alice}&token={alice}", FORM, no_string),
        ("token=%00", FORM, {"token": ["has a character that is not allowed"]}),
        ("token=%ff", FORM, malformed),
        (
            "&".join(f"a{number}=1" for number in range(200)),
            FORM,
            malformed,
        ),
        (f'{{"token": "{alice}"}}', "application/json", no_form),
        (f"token={alice}", "text/plain", no_form),
    ):
        response = await send(client, key, data, headers={"Content-Type": kind})
        assert_error(response, 400, "invalid_input", errors)
