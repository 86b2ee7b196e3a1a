"""The security log of all accounts: its pages, its filter, and what only administrators see."""

from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest

import sql
from service.accounts.account_lock import lock_account, unlock_account
from service.accounts.administration.api_keys import Scope
from service.accounts.closed_accounts import close_account
from service.http.client import Client as HttpClient
from tests.accounts.account_locks import id_of
from tests.accounts.administration.administrators import Administrator
from tests.conftest import Client
from tests.responses import assert_error, assert_invalid

ACTOR = replace(HttpClient.at("192.0.2.9", "Backoffice/1.0"), actor="backoffice")
CLI = replace(HttpClient.at(""), actor="cli")


@pytest.fixture
async def administrator(client: Client) -> Administrator:
    return await Administrator.create(client, Scope.EVENTS_READ)


async def test_events_have_the_administrator_and_the_account(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    user_id = await id_of(db, "alice")
    async with db.transaction():
        await lock_account(db, ACTOR, user_id)
    body = (await administrator.get("/events")).body
    assert body["next_before"] is None
    ended, locked, registered = body["events"]
    identity, moment = locked["id"], locked["created_at"]
    assert locked == {
        "id": identity,
        "kind": "account_locked",
        "created_at": moment,
        "user_id": str(user_id),
        "actor": "backoffice",
        "ip": "192.0.2.9",
        "user_agent": "Backoffice/1.0",
        "session_id": None,
        "amr": None,
    }
    assert (ended["kind"], ended["actor"]) == ("session_ended", "backoffice")
    assert ended["session_id"] == device.session
    assert (registered["kind"], registered["actor"]) == ("registered", None)


async def test_pages_have_every_event_once(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    for name in ("alice", "bob"):
        await client.register(name)
    alice = await id_of(db, "alice")
    for _ in range(3):
        async with db.transaction():
            await lock_account(db, ACTOR, alice)
            await unlock_account(db, CLI, alice)
    expected = [row["id"] for row in await db.fetch("select id from events order by id desc")]
    for path, ids in {
        "/events": expected,
        "/events?actor=cli": await ids_where(db, "actor = 'cli'"),
        "/events?actor=backoffice": await ids_where(db, "actor = 'backoffice'"),
        "/events?actor=nobody": [],
        f"/users/{alice}/events": await ids_where(db, f"user_id = '{alice}'"),
    }.items():
        assert await walk(administrator, path) == ids, path


async def ids_where(db: asyncpg.Connection, condition: str) -> list[int]:
    rows = await db.fetch(f"select id from events where {condition} order by id desc")  # noqa: S608
    return [row["id"] for row in rows]


async def walk(administrator: Administrator, path: str) -> list[int]:
    """Return the ids of all events in pages of two."""
    found: list[int] = []
    before = None
    while True:
        params = {"limit": "2", **({"before": str(before)} if before is not None else {})}
        body = (await administrator.get(path, params=params)).body
        found += [event["id"] for event in body["events"]]
        before = body["next_before"]
        if before is None:
            return found


async def test_events_of_a_deleted_account_are_listed(
    client: Client, administrator: Administrator, db: asyncpg.Connection
) -> None:
    await client.register("alice")
    user_id = await id_of(db, "alice")
    async with db.transaction():
        await close_account(db, user_id)
    body = (await administrator.get(f"/users/{user_id}/events")).body
    assert [event["kind"] for event in body["events"]] == ["registered"]
    empty = await administrator.get(f"/users/{uuid4()}/events")
    assert (empty.status, empty.body) == (200, {"events": [], "next_before": None})


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("limit=0", {"limit": "must be at least 1"}),
        ("limit=1000000000", {"limit": "must be at most 100"}),
        ("limit=1e3", {"limit": "must be a whole number"}),
        ("before=9223372036854775808", {"before": "must be at most 9223372036854775807"}),
        ("limit=1&limit=2", {"limit": "must be given once"}),
        ("actor=%00", {"actor": "has a character that is not allowed"}),
    ],
)
async def test_invalid_page_is_rejected(
    administrator: Administrator, query: str, error: dict[str, str]
) -> None:
    assert_invalid(await administrator.get(f"/events?{query}"), 400, **error)


@pytest.mark.parametrize("identifier", ["1", "%00", "a" * 300, "%27or%201=1"])
async def test_id_that_is_no_uuid_is_404(administrator: Administrator, identifier: str) -> None:
    response = await administrator.get(f"/users/{identifier}/events")
    assert_error(response, 404, "not_found", {"user": ["not found"]})


async def test_events_need_their_scope(client: Client) -> None:
    others = await Administrator.create(client, Scope.USERS_READ, Scope.USERS_WRITE)
    for path in ("/events", f"/users/{uuid4()}/events"):
        response = await others.get(path)
        assert_error(
            response, 403, "scope_required", {"key": ["does not have the scope events:read"]}
        )


async def test_events_of_an_actor_are_read_from_an_index(db: asyncpg.Connection) -> None:
    await db.execute("""
        insert into events (kind, actor)
        select 'signed_in', case when n % 1000 = 0 then 'cli' end
        from generate_series(1, 20000) as n
    """)
    await db.execute("analyze events")
    await db.execute("set plan_cache_mode = force_generic_plan")
    await db.execute(f"prepare acts as {sql.NAMESPACES['events'].list_of_actor.text}")
    plan = await db.fetch("explain execute acts('cli', 1000000, 20)")
    assert "events_actor_idx" in str(plan)
