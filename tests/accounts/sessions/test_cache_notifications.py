"""The notifications that the triggers on users and sessions send to every process."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from tests.conftest import Client, MakeClient

Sent = Callable[[], Awaitable[list[str]]]


@pytest.fixture
async def sent(database_url: str, db: asyncpg.Connection) -> AsyncIterator[Sent]:
    """Yield a function that returns the notifications since its last call."""
    listener = await asyncpg.connect(database_url)
    received: list[str] = []
    await listener.add_listener("accounts", lambda *call: received.append(call[3]))

    async def take() -> list[str]:
        # Notifications of earlier commits arrive before the result of this query.
        await listener.fetchval("select 1")
        taken = sorted(received)
        received.clear()
        return taken

    yield take
    await listener.close()


async def test_logins_refreshes_and_reads_send_no_notification(client: Client, sent: Sent) -> None:
    device = await client.open_account("alice")
    await client.sign_in("alice")
    await client.refresh(device.refresh)
    await client.refresh(device.refresh)
    await client.get("/api/user", token=device.access)
    await client.put("/api/user", {"user": {"bio": ""}}, token=device.access)
    assert await sent() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "new@example.test"),
        ("username", "alicia"),
        ("bio", "new"),
        ("image", "https://example.test/a.png"),
    ],
)
async def test_change_of_a_user_sends_one_notification(
    make_client: MakeClient, db: asyncpg.Connection, sent: Sent, field: str, value: str
) -> None:
    # The strict dialect changes an email at once.
    client = await make_client(realworld_strict=True)
    device = await client.open_account("alice")
    await sent()  # The start may add a key.
    user_id = await db.fetchval("select id from users")
    given = {"user": {field: value}}
    assert (await client.put("/api/user", given, token=device.access)).status == 200
    assert await sent() == [f"user:{user_id}"]
    await client.put("/api/user", given, token=device.access)
    assert await sent() == []


async def test_end_of_a_session_sends_one_notification(client: Client, sent: Sent) -> None:
    here = await client.open_account("alice")
    out, by_id, by_all, reused = [await client.sign_in("alice") for _ in range(4)]
    await client.post("/api/auth/logout", token=out.access)
    assert await sent() == [f"session:{out.session}"]
    await client.delete(f"/api/user/sessions/{by_id.session}", token=here.access)
    assert await sent() == [f"session:{by_id.session}"]
    await client.refresh((await client.refresh(reused.refresh)).body["refresh_token"])
    await client.refresh(reused.refresh)
    assert await sent() == [f"session:{reused.session}"]
    await client.delete("/api/user/sessions", token=here.access)
    assert await sent() == [f"session:{by_all.session}"]


async def test_password_change_sends_a_notification_for_each_other_session(
    client: Client, sent: Sent
) -> None:
    here = await client.open_account("alice")
    others = [await client.sign_in("alice") for _ in range(5)]
    given = {"user": {"password": "a new password"}}
    assert (await client.put("/api/user", given, token=here.access)).status == 200
    assert await sent() == sorted(f"session:{other.session}" for other in others)


async def test_deletion_sends_one_notification_for_the_user(
    client: Client, db: asyncpg.Connection, sent: Sent
) -> None:
    here = await client.open_account("alice")
    await client.sign_in("alice")
    user_id = await db.fetchval("select id from users")
    given = {"user": {"password": "alice-secret"}}
    assert (await client.delete("/api/user", given, token=here.access)).status == 204
    assert await sent() == [f"user:{user_id}"]


async def test_session_changed_or_deleted_by_hand_sends_a_notification(
    client: Client, db: asyncpg.Connection, sent: Sent
) -> None:
    device = await client.open_account("alice")
    await db.execute("update sessions set expires_at = expires_at - interval '1 day'")
    assert await sent() == [f"session:{device.session}"]
    await db.execute("delete from sessions")
    assert await sent() == [f"session:{device.session}"]


async def test_deletion_of_ended_sessions_sends_no_notification(
    client: Client, db: asyncpg.Connection, sent: Sent
) -> None:
    await client.open_account("alice")
    ended = await client.sign_in("alice")
    await client.post("/api/auth/logout", token=ended.access)
    await db.execute(
        "update sessions set expires_at = now() - interval '1 minute' where ended_at is null"
    )
    await sent()
    await db.execute("delete from sessions")
    assert await sent() == []
