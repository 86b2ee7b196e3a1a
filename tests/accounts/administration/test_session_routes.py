"""Sessions of any account in the HTTP API of administrators."""

import asyncpg
import pytest

from service.accounts.administration import sign_out
from tests.accounts.account_locks import id_of
from tests.accounts.administration.administrators import Administrator
from tests.accounts.two_instances import REVOKED, TwoInstances
from tests.conftest import Client
from tests.responses import assert_error


@pytest.fixture
async def administrator(client: Client) -> Administrator:
    return await Administrator.create(client)


async def test_session_is_listed_and_ended(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    first, second = await client.open_account("alice"), await client.sign_in("alice")
    bob = await client.open_account("bob")
    path = f"/users/{await id_of(db)}/sessions"
    sessions = (await administrator.get(path)).body["sessions"]
    assert {session["id"] for session in sessions} == {first.session, second.session}
    assert (await administrator.delete(f"{path}/{first.session}")).status == 204
    assert (await client.get("/api/user", token=first.access)).body == REVOKED
    assert await client.is_authenticated(second.access)
    for session in (first.session, bob.session):
        response = await administrator.delete(f"{path}/{session}")
        assert_error(response, 404, "not_found", {"session": ["not found"]})
    assert await client.is_authenticated(bob.access)
    row = await db.fetchrow("select kind, actor, session_id::text from events order by id desc")
    assert row is not None
    assert tuple(row) == ("signed_out_by_administrator", "backoffice", first.session)


async def test_sign_out_ends_all_sessions_of_one_user_in_every_process(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    administrator = await Administrator.create(instances.first)
    bob = await instances.first.register("bob")
    await instances.first.sign_in("alice")
    path = f"/users/{await id_of(db)}/sign-out"
    for count in (2, 0):
        response = await administrator.post(path)
        assert (response.status, response.body) == (200, {"ended_sessions": count})
    assert (await instances.first.get("/api/user", token=instances.token)).body == REVOKED
    assert (await instances.after_sync()).body == REVOKED
    assert await instances.first.is_authenticated(bob)
    assert await instances.first.sign_in("alice")


async def test_sign_out_of_everybody_ends_all_sessions_in_every_process(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    administrator = await Administrator.create(instances.first)
    tokens = [instances.token, await instances.first.register("bob")]
    for body in ({}, {"all_users": False}, {"all_users": 1}, {"all_users": None}):
        response = await administrator.post("/sign-out", body)
        assert (response.status, [*response.body["errors"]]) == (400, ["all_users"])
    assert [await instances.first.is_authenticated(token) for token in tokens] == [True, True]
    for count in (2, 0):
        response = await administrator.post("/sign-out", {"all_users": True})
        assert (response.status, response.body) == (200, {"ended_sessions": count})
        for token in tokens:
            assert (await instances.first.get("/api/user", token=token)).body == REVOKED
    assert (await instances.after_sync()).body == REVOKED
    assert await instances.first.sign_in("alice")
    actors = await db.fetch("select actor from events where kind = 'session_ended'")
    assert [row["actor"] for row in actors] == ["backoffice", "backoffice"]


async def test_sign_out_of_everybody_is_503_while_a_session_stays_locked(
    client: Client,
    administrator: Administrator,
    db: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sign_out, "MAX_RETRIES", 1)
    await client.register("alice")
    async with db.transaction():
        await db.execute("select from sessions for update")
        response = await administrator.post("/sign-out", {"all_users": True})
    errors = {"sessions": ["are locked by another program"]}
    assert_error(response, 503, "database_unavailable", errors)
    assert response.headers["Retry-After"] == "30"
