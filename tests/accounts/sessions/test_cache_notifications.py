"""What the database tells the processes that remember users and sessions."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from tests.conftest import Client

Heard = Callable[[], Awaitable[list[str]]]


@pytest.fixture
async def heard(database_url: str, db: asyncpg.Connection) -> AsyncIterator[Heard]:
    """Returns what was told since the last call."""
    listener = await asyncpg.connect(database_url)
    told: list[str] = []
    await listener.add_listener("accounts", lambda *call: told.append(call[3]))

    async def take() -> list[str]:
        # What was committed before an answer on the same connection has arrived with it.
        await listener.fetchval("select 1")
        taken = sorted(told)
        told.clear()
        return taken

    yield take
    await listener.close()


async def test_what_happens_often_is_not_told(client: Client, heard: Heard) -> None:
    device = await client.open_account("alice")
    await client.sign_in("alice")
    await client.refresh(device.refresh)
    await client.refresh(device.refresh)
    await client.get("/api/user", token=device.access)
    await client.put("/api/user", {"user": {"bio": ""}}, token=device.access)
    assert await heard() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "new@example.test"),
        ("username", "alicia"),
        ("bio", "new"),
        ("image", "https://example.test/a.png"),
    ],
)
async def test_a_changed_user_is_told(
    client: Client, db: asyncpg.Connection, heard: Heard, field: str, value: str
) -> None:
    device = await client.open_account("alice")
    user_id = await db.fetchval("select id from users")
    given = {"user": {field: value}}
    assert (await client.put("/api/user", given, token=device.access)).status == 200
    assert await heard() == [f"user:{user_id}"]
    await client.put("/api/user", given, token=device.access)
    assert await heard() == []


async def test_each_end_of_a_session_is_told_once(client: Client, heard: Heard) -> None:
    here = await client.open_account("alice")
    out, by_id, by_all, reused = [await client.sign_in("alice") for _ in range(4)]
    await client.post("/api/auth/logout", token=out.access)
    assert await heard() == [f"session:{out.session}"]
    await client.delete(f"/api/user/sessions/{by_id.session}", token=here.access)
    assert await heard() == [f"session:{by_id.session}"]
    await client.refresh((await client.refresh(reused.refresh)).body["refresh_token"])
    await client.refresh(reused.refresh)
    assert await heard() == [f"session:{reused.session}"]
    await client.delete("/api/user/sessions", token=here.access)
    assert await heard() == [f"session:{by_all.session}"]


async def test_a_password_change_tells_each_session_and_not_the_user(
    client: Client, heard: Heard
) -> None:
    here = await client.open_account("alice")
    others = [await client.sign_in("alice") for _ in range(5)]
    given = {"user": {"password": "a new password"}}
    assert (await client.put("/api/user", given, token=here.access)).status == 200
    assert await heard() == sorted(f"session:{other.session}" for other in others)


async def test_a_deleted_user_is_told_and_not_each_session(
    client: Client, db: asyncpg.Connection, heard: Heard
) -> None:
    here = await client.open_account("alice")
    await client.sign_in("alice")
    user_id = await db.fetchval("select id from users")
    given = {"user": {"password": "alice-secret"}}
    assert (await client.delete("/api/user", given, token=here.access)).status == 204
    assert await heard() == [f"user:{user_id}"]


async def test_a_session_that_an_operator_deletes_or_cuts_short_is_told(
    client: Client, db: asyncpg.Connection, heard: Heard
) -> None:
    device = await client.open_account("alice")
    await db.execute("update sessions set expires_at = expires_at - interval '1 day'")
    assert await heard() == [f"session:{device.session}"]
    await db.execute("delete from sessions")
    assert await heard() == [f"session:{device.session}"]


async def test_the_clean_up_of_what_is_over_is_not_told(
    client: Client, db: asyncpg.Connection, heard: Heard
) -> None:
    await client.open_account("alice")
    ended = await client.sign_in("alice")
    await client.post("/api/auth/logout", token=ended.access)
    await db.execute("update sessions set expires_at = now() where ended_at is null")
    await heard()
    await db.execute("delete from sessions")
    assert await heard() == []
