"""The passkeys of the current user."""

from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.accounts.logins import login
from tests.accounts.passkeys.authenticator import Authenticator
from tests.accounts.passkeys.passkeys import (
    OPTIONS,
    PASSKEYS,
    add,
    add_passkey,
    creation_options,
    kinds_of_events,
    list_passkeys,
    log_in,
)
from tests.accounts.proofs import REQUIRES_PROOF, make_proofs_stale, set_age_of_proofs
from tests.conftest import Client, Device, Response
from tests.responses import assert_error


async def test_passkey_is_added_and_listed(client: Client, alice: str, bob: str) -> None:
    assert await list_passkeys(client, alice) == []
    authenticator = Authenticator()
    credential = authenticator.create(await creation_options(client, alice))
    response = await add(client, alice, credential, name="My laptop")
    assert response.status == 201
    passkey = response.body["passkey"]
    assert passkey == {
        "id": passkey["id"],
        "name": "My laptop",
        "created_at": passkey["created_at"],
        "last_used_at": None,
    }
    await add_passkey(client, alice)
    listed = await list_passkeys(client, alice)
    assert listed[0] == passkey
    assert [each["name"] for each in listed] == ["My laptop", "Passkey"]
    assert await list_passkeys(client, bob) == []
    assert await kinds_of_events(client, alice) == ["passkey_added", "passkey_added", "registered"]


async def test_use_of_a_passkey_shows_in_the_list(client: Client, alice: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    assert (await log_in(client, authenticator)).status == 200
    (passkey,) = await list_passkeys(client, alice)
    assert passkey["last_used_at"] > passkey["created_at"]


async def test_passkey_is_renamed(client: Client, alice: str) -> None:
    _, passkey_id = await add_passkey(client, alice)
    response = await client.patch(f"{PASSKEYS}/{passkey_id}", {"name": "Phone"}, token=alice)
    assert response.status == 200
    assert [response.body["passkey"]] == await list_passkeys(client, alice)
    assert response.body["passkey"]["name"] == "Phone"


async def test_removed_passkey_opens_no_session(client: Client, alice: str) -> None:
    authenticator, passkey_id = await add_passkey(client, alice)
    assert (await log_in(client, authenticator)).status == 200
    response = await client.delete(f"{PASSKEYS}/{passkey_id}", token=alice)
    assert response.status == 204
    response = await log_in(client, authenticator)
    assert_error(response, 401, "passkey_unknown", {"passkey": ["is unknown"]})
    assert await list_passkeys(client, alice) == []
    assert (await kinds_of_events(client, alice))[0] == "passkey_removed"


async def test_passkey_of_another_user_is_not_found(client: Client, alice: str, bob: str) -> None:
    _, passkey_id = await add_passkey(client, alice)
    for bad_id in (passkey_id, str(uuid4()), "1", "-", passkey_id.replace("-", ""), "a" * 5000):
        path = f"{PASSKEYS}/{bad_id}"
        for response in (
            await client.patch(path, {"name": "Mine"}, token=bob),
            await client.delete(path, token=bob),
        ):
            assert_error(response, 404, "not_found", {"passkey": ["not found"]})
    assert [each["name"] for each in await list_passkeys(client, alice)] == ["Passkey"]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_path_that_is_no_id_is_unknown(client: Client, alice: str, method: str) -> None:
    for other in ("x", "%00", "%ff", "options2", "%6fptions/"):
        response = await client.send(method, f"{PASSKEYS}/{other}", {"name": "x"}, token=alice)
        assert (response.status, response.body["code"]) == (404, "not_found")
    response = await client.send(method, OPTIONS, {"name": "x"}, token=alice)
    assert_error(response, 405, "method_not_allowed", {"method": ["not allowed"]})
    assert response.headers["Allow"] == "POST"


BAD_NAMES: dict[str, Any] = {
    "empty": "",
    "blank": " ",
    "null": None,
    "a number": 7,
    "a list": ["Phone"],
    "too long": "x" * 101,
    "a line break": "My\nphone",
    "a NUL": "My\0phone",
    "a bidirectional override": "My \u202ephone",
    "a space at the end": "Phone ",
}


def is_invalid(response: Response, field: str) -> bool:
    """Return whether ``response`` rejects only this field."""
    is_error = (response.status, response.body["code"]) == (400, "invalid_input")
    return is_error and list(response.body["errors"]) == [field]


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
async def test_bad_name_is_invalid(client: Client, alice: str, name: Any) -> None:
    _, passkey_id = await add_passkey(client, alice)
    response = await client.patch(f"{PASSKEYS}/{passkey_id}", {"name": name}, token=alice)
    assert is_invalid(response, "name")
    credential = Authenticator().create(await creation_options(client, alice))
    assert is_invalid(await add(client, alice, credential, name=name), "name")
    assert [each["name"] for each in await list_passkeys(client, alice)] == ["Passkey"]


async def test_change_of_passkeys_is_rejected_when_the_proof_is_old(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    """The proof is checked before a challenge is used."""
    _, passkey_id = await add_passkey(client, alice)
    credential = Authenticator().create(await creation_options(client, alice))
    await make_proofs_stale(client, db)
    path = f"{PASSKEYS}/{passkey_id}"
    for response in (
        await client.post(OPTIONS, token=alice),
        await add(client, alice, credential),
        await client.patch(path, {"name": "Phone"}, token=alice),
        await client.delete(path, token=alice),
    ):
        assert (response.status, response.body["code"]) == (403, REQUIRES_PROOF["code"])
    assert [each["id"] for each in await list_passkeys(client, alice)] == [passkey_id]
    unused = "select count(*) from one_time_tokens where used_at is null and purpose = $1"
    assert await db.fetchval(unused, "passkey_registration") == 1
    await set_age_of_proofs(client, db, 0)
    assert (await add(client, alice, credential)).status == 201


async def test_last_way_to_log_in_is_not_removed(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    _, first = await add_passkey(client, alice)
    _, second = await add_passkey(client, alice)
    await db.execute("update users set password_hash = null")
    assert (await client.delete(f"{PASSKEYS}/{first}", token=alice)).status == 204
    response = await client.delete(f"{PASSKEYS}/{second}", token=alice)
    only_way = {"passkey": ["is the only way to log in"]}
    assert_error(response, 409, "last_sign_in_method", only_way)
    assert [each["id"] for each in await list_passkeys(client, alice)] == [second]
    assert (await kinds_of_events(client, alice)).count("passkey_removed") == 1


async def test_other_sessions_end_when_the_request_says_so(client: Client, alice: str) -> None:
    other = (await client.sign_in("alice")).access
    _, passkey_id = await add_passkey(client, alice)
    assert await client.is_authenticated(other)
    credential = Authenticator().create(await creation_options(client, alice))
    assert (await add(client, alice, credential, end_other_sessions=True)).status == 201
    assert not await client.is_authenticated(other)
    other = (await client.sign_in("alice")).access
    path = f"{PASSKEYS}/{passkey_id}?end_other_sessions=true"
    assert (await client.delete(path, token=alice)).status == 204
    assert not await client.is_authenticated(other)
    assert await client.is_authenticated(alice)


@pytest.mark.parametrize("value", [1, 0, "true", None, []], ids=repr)
async def test_end_other_sessions_must_be_a_boolean(client: Client, alice: str, value: Any) -> None:
    credential = Authenticator().create(await creation_options(client, alice))
    response = await add(client, alice, credential, end_other_sessions=value)
    assert is_invalid(response, "end_other_sessions")
    response = await client.delete(f"{PASSKEYS}/{uuid4()}?end_other_sessions=1", token=alice)
    assert is_invalid(response, "end_other_sessions")


async def test_removed_passkey_ends_the_proofs_of_passkeys_in_other_sessions(
    client: Client, alice: str
) -> None:
    authenticator, passkey_id = await add_passkey(client, alice)
    other = (await log_in(client, authenticator)).body["user"]["token"]
    password_session = (await client.sign_in("alice")).access
    assert (await client.post(OPTIONS, token=other)).status == 200
    assert (await client.delete(f"{PASSKEYS}/{passkey_id}", token=alice)).status == 204
    response = await client.post(OPTIONS, token=other)
    assert (response.status, response.body) == (403, REQUIRES_PROOF)
    assert await client.is_authenticated(other)
    for token in (alice, password_session):
        assert (await client.post(OPTIONS, token=token)).status == 200


async def test_logins_that_wait_for_a_code_end_with_the_other_sessions(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, passkey_id = await add_passkey(client, alice)
    device = Device.of(await log_in(client, authenticator))
    await db.execute("update users set two_factor_since = now()")
    assert (await login(client, "alice", "alice-secret")).body["code"] == "two_factor_required"
    path = f"{PASSKEYS}/{passkey_id}?end_other_sessions=true"
    assert (await client.delete(path, token=device.access)).status == 204
    challenges = "select count(*) from one_time_tokens where purpose = 'two_factor'"
    assert await db.fetchval(challenges) == 0
