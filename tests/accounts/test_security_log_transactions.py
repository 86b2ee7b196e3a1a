"""An event is written in the same transaction as its cause."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.conftest import Client, Device, MakeClient, Response

LOGIN = {"user": {"email": "alice@example.test", "password": "alice-secret"}}
STATE = (
    "select array_agg(users::text order by users.id) from users",
    "select array_agg(sessions::text order by sessions.id) from sessions",
    "select array_agg(refresh_tokens::text order by digest) from refresh_tokens",
    "select array_agg(known_ips::text order by ip_key) from known_ips",
    "select array_agg(events::text order by events.id) from events",
)


@asynccontextmanager
async def fail_at_commit(db: asyncpg.Connection, kind: str) -> AsyncIterator[None]:
    """Make the commit of every event of this ``kind`` fail."""
    await db.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise 'failed at commit'; end $$"
    )
    await db.execute(
        "create constraint trigger refuse after insert on events deferrable initially deferred"
        f" for each row when (new.kind = '{kind}') execute function refuse()"
    )
    try:
        yield
    finally:
        await db.execute("drop trigger refuse on events; drop function refuse")


async def state(db: asyncpg.Connection) -> list[Any]:
    return [await db.fetchval(query) for query in STATE]


Act = Callable[[Client, Device], Awaitable[Response]]


async def register(client: Client, _: Device) -> Response:
    user = {"username": "bob", "email": "bob@example.test", "password": "bob-secret"}
    return await client.post("/api/users", {"user": user})


async def sign_in(client: Client, _: Device) -> Response:
    return await client.post("/api/users/login", LOGIN)


async def fail_to_sign_in(client: Client, _: Device) -> Response:
    wrong = {"user": {**LOGIN["user"], "password": "wrong"}}
    return await client.post("/api/users/login", wrong)


async def sign_out(client: Client, device: Device) -> Response:
    return await client.post("/api/auth/logout", token=device.access)


async def end_one(client: Client, device: Device) -> Response:
    return await client.delete(f"/api/user/sessions/{device.session}", token=device.access)


async def end_others(client: Client, device: Device) -> Response:
    return await client.delete("/api/user/sessions", token=device.access)


async def change_the_password(client: Client, device: Device) -> Response:
    change = {"user": {"password": "another secret"}}
    return await client.put("/api/user", change, token=device.access)


async def change_the_email(client: Client, device: Device) -> Response:
    change = {"user": {"email": "new@example.test"}}
    return await client.put("/api/user", change, token=device.access)


async def delete_the_account(client: Client, device: Device) -> Response:
    return await client.delete("/api/user", LOGIN, token=device.access)


async def reuse_a_token(client: Client, device: Device) -> Response:
    return await client.refresh(device.refresh)


ACTS: list[tuple[str, Act]] = [
    ("registered", register),
    ("signed_in", sign_in),
    ("sign_in_failed", fail_to_sign_in),
    ("evicted", sign_in),
    ("signed_out", sign_out),
    ("session_ended", end_one),
    ("session_ended", end_others),
    ("session_ended", change_the_password),
    ("password_changed", change_the_password),
    ("email_change_requested", change_the_email),
    ("email_changed", change_the_email),
    ("account_deleted", delete_the_account),
    ("refresh_token_reused", reuse_a_token),
]


@pytest.mark.parametrize(
    ("kind", "act"), ACTS, ids=[f"{kind} {act.__name__}" for kind, act in ACTS]
)
async def test_change_is_rolled_back_when_its_event_cannot_be_written(
    make_client: MakeClient, db: asyncpg.Connection, kind: str, act: Act
) -> None:
    # Only the strict dialect changes an email in the request.
    is_strict = kind == "email_changed"
    client = await make_client(session_limit=2, realworld_strict=is_strict)
    device = await client.open_account("alice")
    await client.sign_in("alice")
    for token in (device.refresh, (await client.refresh(device.refresh)).body["refresh_token"]):
        await client.refresh(token)
    before = await state(db)
    async with fail_at_commit(db, kind):
        assert (await act(client, device)).status == 500
    assert await state(db) == before
    # Without the failure, the same request succeeds and is logged.
    assert (await act(client, device)).status < 500
    assert kind in {row["kind"] for row in await db.fetch("select kind from events")}
