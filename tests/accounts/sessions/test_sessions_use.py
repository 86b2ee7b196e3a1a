"""Sessions that only renew their access token: their expiry, and their use in the list."""

import time
from typing import Any

import asyncpg
import jwt
import pytest

from tests.accounts.two_instances import queries_of, wait_until_trusted
from tests.conftest import Client, Device, MakeClient
from tests.responses import assert_error

HOUR = "interval '1 hour'"
THIEF = {"User-Agent": "Thief/1.0"}


def seconds_left(token: str) -> int:
    """Return for how many seconds an access token is still valid."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return int(claims["exp"] - time.time())


async def fresh_token(client: Client, device: Device, **options: Any) -> str:
    response = await client.get("/api/user", token=device.access, **options)
    assert response.status == 200, response
    return str(response.body["user"]["token"])


async def listed(client: Client, device: Device) -> dict[str, Any]:
    """Return the session of the device from the session list."""
    sessions = (await client.get("/api/user/sessions", token=device.access)).body["sessions"]
    (session,) = (session for session in sessions if session["id"] == device.session)
    return dict(session)


async def test_fresh_token_never_outlives_the_refresh_token(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await db.execute("update sessions set idle_expires_at = now() + interval '1000 seconds'")
    token = await fresh_token(client, device)
    assert 990 <= seconds_left(token) <= 1000
    changed = await client.put("/api/user", {"user": {"bio": "x"}}, token=token)
    assert seconds_left(changed.body["user"]["token"]) <= 1000


async def test_no_token_of_a_login_outlives_the_refresh_token(make_client: MakeClient) -> None:
    client = await make_client(access_token_ttl=2000, refresh_token_ttl=1000)
    device = await client.open_account("alice")
    assert seconds_left(device.access) <= 1000
    assert seconds_left(Device.of(await client.refresh(device.refresh)).access) <= 1000


async def test_session_that_is_not_refreshed_ends(client: Client, db: asyncpg.Connection) -> None:
    device = await client.open_account("alice")
    await db.execute("update sessions set idle_expires_at = now()")
    response = await client.get("/api/user", token=device.access)
    assert_error(response, 401, "token_revoked", {"token": ["has been revoked"]})
    other = await client.sign_in("alice")
    sessions = (await client.get("/api/user/sessions", token=other.access)).body["sessions"]
    assert [session["id"] for session in sessions] == [other.session]


async def test_refresh_in_another_process_extends_fresh_tokens_of_this_one(
    make_client: MakeClient,
) -> None:
    settings = {"user_cache_size": 100, "access_token_ttl": 2000}
    here = await make_client(**settings, refresh_token_ttl=2000)
    there = await wait_until_trusted(await make_client(**settings, refresh_token_ttl=1000))
    device = await there.open_account("alice")
    assert seconds_left(await fresh_token(there, device)) <= 1000
    device = Device.of(await here.refresh(device.refresh))
    assert seconds_left(await fresh_token(there, device)) > 1900


async def test_fresh_token_for_another_user_agent_shows_in_the_session_list(
    client: Client,
) -> None:
    device = await client.open_account("alice")
    before = await listed(client, device)
    await fresh_token(client, device, headers=THIEF)
    after = await listed(client, device)
    assert (after["user_agent"], after["ip"]) == ("Thief/1.0", "127.0.0.1")
    assert after["last_used_at"] > before["last_used_at"]


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_fresh_token_for_another_ip_address_shows_in_the_session_list(
    make_client: MakeClient, method: str
) -> None:
    client = await make_client(trusted_proxies=1)
    device = await client.open_account("alice")
    body = {"user": {"bio": "x"}} if method == "PUT" else None
    headers = {"X-Forwarded-For": "203.0.113.9"}
    await client.send(method, "/api/user", body, token=device.access, headers=headers)
    assert (await listed(client, device))["ip"] == "203.0.113.9"


async def test_use_by_the_same_device_is_recorded_an_hour_later(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    before = await listed(client, device)
    await fresh_token(client, device)
    assert await listed(client, device) == before
    await db.execute(f"update sessions set last_used_at = last_used_at - {HOUR}")  # noqa: S608
    # Use a session that this process has not cached: the change above sent no notification.
    other = await client.sign_in("alice")
    await db.execute(f"update sessions set last_used_at = last_used_at - {HOUR}")  # noqa: S608
    aged = await listed(client, other)
    await fresh_token(client, other)
    assert (await listed(client, other))["last_used_at"] > aged["last_used_at"]


async def test_use_is_recorded_at_most_once_an_hour(
    client: Client, make_client: MakeClient, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    for number in range(3):
        await fresh_token(client, device, headers={"User-Agent": f"Thief/{number}"})
    assert (await listed(client, device))["user_agent"] == "Thief/0"
    await db.execute(f"update sessions set touched_at = touched_at - {HOUR}")  # noqa: S608
    # Use another process: this one has cached the time of the next update.
    await fresh_token(await make_client(), device, headers=THIEF)
    assert (await listed(client, device))["user_agent"] == "Thief/1.0"


async def test_fresh_tokens_of_one_hour_run_one_update(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await wait_until_trusted(await make_client(user_cache_size=100))
    device = await client.open_account("alice")
    names = queries_of(monkeypatch)
    for _ in range(3):
        await fresh_token(client, device)
    assert names == ["find_with_user"]
    for number in range(3):
        await fresh_token(client, device, headers={"User-Agent": f"Other/{number}"})
    assert names == ["find_with_user", "touch"]


async def test_use_recorded_by_another_process_is_not_recorded_again(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await wait_until_trusted(await make_client(user_cache_size=100))
    there = await wait_until_trusted(await make_client(user_cache_size=100))
    device = await here.open_account("alice")
    await fresh_token(there, device)
    await fresh_token(here, device, headers=THIEF)
    names = queries_of(monkeypatch)
    for number in range(3):
        await fresh_token(there, device, headers={"User-Agent": f"Other/{number}"})
    assert names == ["touch"]
    assert (await listed(there, device))["user_agent"] == "Thief/1.0"
