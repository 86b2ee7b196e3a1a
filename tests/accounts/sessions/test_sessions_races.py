"""Sessions that end during another request: no valid token is left."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

import sql
from service.accounts.sessions.sessions import NO_ATTEMPT
from service.database.change_listener import CHANGE_LISTENER
from service.settings.rate_limit import NO_LIMIT
from tests.accounts.logins import count_hashes
from tests.conduit.content import wait_until_removed
from tests.conftest import Client, Device, Dialect, MakeClient, Response, until_blocked
from tests.responses import assert_error

ROUNDS = 15
OLD_PASSWORD = {"user": {"email": "alice@example.test", "password": "alice-secret"}}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    """Return a client of a service without login limits, which would delay the logins."""
    return await make_client(login_limits=(NO_LIMIT, NO_LIMIT, NO_LIMIT))


async def assert_revoked(client: Client, device: Device) -> None:
    """Assert that both tokens of a device are revoked."""
    response = await client.get("/api/user", token=device.access)
    assert_error(response, 401, "token_revoked", {"token": ["has been revoked"]})
    assert (await client.refresh(device.refresh)).body["code"] == "refresh_token_revoked"


async def test_refresh_concurrent_with_a_logout_leaves_no_valid_token(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    for _ in range(ROUNDS):
        device = await client.sign_in("alice")
        # All requests wait for the lock on the session, and continue in the order of their arrival.
        async with db.transaction():
            await db.execute("select from sessions where id = $1 for update", device.session)
            under_way = asyncio.gather(
                *(client.refresh(device.refresh) for _ in range(4)),
                client.post("/api/auth/logout", token=device.access),
                *(client.refresh(device.refresh) for _ in range(4)),
            )
            await until_blocked(db, 9)
        responses = await under_way
        assert responses[4].status == 204
        for response in responses[:4] + responses[5:]:
            if response.status == 200:
                await assert_revoked(client, Device.of(response))
            else:
                assert response.body["code"] == "refresh_token_revoked"


async def test_refresh_concurrent_with_a_password_change_leaves_no_valid_token(
    client: Client,
) -> None:
    here = await client.open_account("alice")
    password = "alice-secret"
    for number in range(ROUNDS):
        device = await client.sign_in("alice", password)
        password = f"password {number}"
        changed, *responses = await asyncio.gather(
            client.put("/api/user", {"user": {"password": password}}, token=here.access),
            *(client.refresh(device.refresh) for _ in range(8)),
        )
        assert changed.status == 200
        for response in responses:
            if response.status == 200:
                await assert_revoked(client, Device.of(response))
        assert await client.is_authenticated(here.access)


async def test_login_concurrent_with_a_password_change_leaves_no_session_of_the_old_password(
    client: Client,
) -> None:
    here = await client.open_account("alice")
    old = "alice-secret"
    for number in range(ROUNDS):
        credentials = {"user": {"email": "alice@example.test", "password": old}}
        new = f"password {number}"
        changed, *responses = await asyncio.gather(
            client.put("/api/user", {"user": {"password": new}}, token=here.access),
            *(client.post("/api/users/login", credentials) for _ in range(12)),
        )
        assert changed.status == 200
        for response in responses:
            if response.status == 200:
                await assert_revoked(client, Device.of(response))
            else:
                assert response.body["code"] == "invalid_credentials"
        old = new


async def test_password_change_fails_when_another_one_ended_its_session(
    client: Client,
) -> None:
    # The owner and a thief change the password concurrently. The first change ends the session of
    # the second.
    owner, thief = await client.open_account("alice"), await client.sign_in("alice")
    for number in range(ROUNDS):
        devices = {f"owner's {number}": owner, f"thief's {number}": thief}
        responses = await asyncio.gather(
            *(
                client.put("/api/user", {"user": {"password": password}}, token=device.access)
                for password, device in devices.items()
            )
        )
        assert Counter(response.status for response in responses) == {200: 1, 401: 1}
        alive = [await client.is_authenticated(device.access) for device in devices.values()]
        assert alive == [response.status == 200 for response in responses]
        password = list(devices)[alive.index(True)]
        owner, thief = (
            await client.sign_in("alice", password),
            list(devices.values())[alive.index(True)],
        )


async def test_one_session_remains_when_all_devices_revoke_each_other(client: Client) -> None:
    await client.open_account("alice")
    for _ in range(3):
        devices = [await client.sign_in("alice") for _ in range(12)]
        responses = await asyncio.gather(
            *(client.delete("/api/user/sessions", token=device.access) for device in devices)
        )
        assert Counter(response.status for response in responses) == {204: 1, 401: 11}
        alive = [await client.is_authenticated(device.access) for device in devices]
        assert alive == [response.status == 204 for response in responses]


async def test_old_password_adds_no_known_ip(client: Client, db: asyncpg.Connection) -> None:
    here = await client.open_account("alice")
    (user,) = await db.fetch("select id, password_version from users")
    change = {"user": {"password": "another secret"}}
    assert (await client.put("/api/user", change, token=here.access)).status == 200
    opened = await sql.sessions.open(
        db,
        user_id=user["id"],
        password_version=user["password_version"],
        ttl=60,
        digest=b"",
        refresh_token_ttl=60,
        kind="signed_in",
        ip=None,
        user_agent=None,
        ip_key="203.0.113.9",
        amr=["pwd"],
        is_fresh=True,
        known_only=False,
        **NO_ATTEMPT,
    )
    assert opened["id"] is None
    known = await db.fetch("select ip_key from known_ips")
    assert [row["ip_key"] for row in known] == ["127.0.0.1"]


async def test_deletion_verifies_the_account_of_the_session_when_its_email_moved_to_another_user(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    """The cached user still has the old email, which another user has by now."""
    client = await make_client(user_cache_size=100)
    while not client.http.app[CHANGE_LISTENER].is_trusted():
        await asyncio.sleep(0)
    alice = await client.open_account("alice")
    assert await client.is_authenticated(alice.access)
    await db.execute("alter table users disable trigger users_changed_notify")
    await db.execute("update users set email = 'a@example.test', email_key = 'a@example.test'")
    await db.execute("alter table users enable trigger users_changed_notify")
    await client.open_account("bob", email="alice@example.test", password="bob-secret")
    bobs = {"user": {"password": "bob-secret"}}
    assert (await client.delete("/api/user", bobs, token=alice.access)).status == 401
    assert await db.fetchval("select count(*) from users") == 2


async def respond_after(
    client: Client, db: asyncpg.Connection, request: Any, meanwhile: str
) -> Response:
    """Return the response to ``request``, which waits for the user's row during ``meanwhile``."""
    async with db.transaction():
        await db.execute("select from users for update")
        waiting = asyncio.create_task(request)
        await until_blocked(db, 1)
        await db.execute(meanwhile)
    response: Response = await waiting
    return response


async def test_login_concurrent_with_a_password_change_is_verified_once(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.open_account("alice")
    verified = count_hashes(client, monkeypatch)
    change = "update users set password_version = password_version + 1, password_hash = ''"
    login = client.post("/api/users/login", OLD_PASSWORD)
    response = await respond_after(client, db, login, change)
    assert_error(response, 401, "invalid_credentials", {"credentials": ["invalid"]})
    assert len(verified) == 1
    kinds = await db.fetch("select kind from events order by id")
    assert [row["kind"] for row in kinds] == ["registered", "sign_in_failed"]


ENDED = "update sessions set ended_at = now(), end_reason = '{reason}'"
REQUESTS = {
    "update": ("PUT", "/api/user", {"user": {"bio": "new"}}),
    "deletion": ("DELETE", "/api/user", OLD_PASSWORD),
    "end of all others": ("DELETE", "/api/user/sessions", None),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize(
    ("reason", "code"), [("signed_out", "token_revoked"), ("evicted", "session_evicted")]
)
async def test_change_fails_when_its_session_ends_while_it_waits(
    client: Client, db: asyncpg.Connection, name: str, reason: str, code: str
) -> None:
    here = await client.open_account("alice")
    method, path, body = REQUESTS[name]
    request = client.send(method, path, body, token=here.access)
    response = await respond_after(client, db, request, ENDED.format(reason=reason))
    assert_error(response, 401, code, {"token": ["has been revoked"]})
    assert await db.fetchval("select count(*) from users where bio is null") == 1


async def test_email_change_is_detected_against_the_current_row(
    dialect_client: Client, dialect: Dialect, db: asyncpg.Connection
) -> None:
    client = dialect_client
    here = await client.open_account("alice")
    request = client.put("/api/user", {"user": {"bio": "new"}}, token=here.access)
    moved = "update users set email = 'new@example.test', email_key = 'new@example.test'"
    assert (await respond_after(client, db, request, moved)).status == 200
    back = {"user": {"email": "alice@example.test"}}
    assert (await client.put("/api/user", back, token=here.access)).status == 200
    kinds = await db.fetch("select kind from events order by id")
    changed = "email_changed" if dialect.strict else "email_change_requested"
    assert [row["kind"] for row in kinds] == ["registered", changed]


async def test_deletion_concurrent_with_refreshes_leaves_no_rows(
    client: Client, db: asyncpg.Connection
) -> None:
    for _ in range(5):
        here = await client.open_account("alice")
        devices = [await client.sign_in("alice") for _ in range(6)]
        deleted, *responses = await asyncio.gather(
            client.delete("/api/user", OLD_PASSWORD, token=here.access),
            *(client.refresh(device.refresh) for device in devices),
            *(client.post("/api/users/login", OLD_PASSWORD) for _ in range(6)),
        )
        assert deleted.status == 204
        assert {response.status for response in responses} <= {200, 401}
        for response in responses:
            if response.status == 200:
                device = Device.of(response)
                assert not await client.is_authenticated(device.access)
                assert (await client.refresh(device.refresh)).body[
                    "code"
                ] == "refresh_token_invalid"
        # A session that a refresh locks during the deletion is deleted right afterwards.
        await wait_until_removed(client)
        assert await db.fetchval("select count(*) from sessions") == 0
        assert await db.fetchval("select count(*) from refresh_tokens") == 0
