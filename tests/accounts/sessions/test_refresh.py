"""Refresh tokens: rotation, grace period, and detection of reuse."""

import asyncio
import json
from collections import Counter
from typing import Any

import asyncpg
import jwt
import pytest

from tests.conftest import SECRET, Client, Device, Dialect, MakeClient, Response, until_blocked
from tests.network import Network
from tests.responses import assert_error, assert_invalid

MANY = 50
AGE_PAST_GRACE = "update sessions set rotated_at = rotated_at - interval '30.5 seconds'"
REUSED = {"refresh_token": ["has been used before"]}
REVOKED = {"refresh_token": ["has been revoked"]}


async def refreshed(client: Client, token: str) -> Device:
    """Refresh successfully and return the new tokens."""
    response = await client.refresh(token)
    assert response.status == 200, response
    return Device.of(response)


def assert_reused(response: Response) -> None:
    assert_error(response, 401, "refresh_token_reused", REUSED)


async def test_refresh_replaces_both_tokens(dialect_client: Client) -> None:
    old = await dialect_client.open_account("alice")
    response = await dialect_client.refresh(old.refresh)
    new = Device.of(response)
    assert (response.status, response.body) == (
        200,
        {
            "access_token": new.access,
            "token_type": "Token",
            "expires_in": 86_400,
            "refresh_token": new.refresh,
        },
    )
    assert response.headers["Cache-Control"] == "no-store"
    assert new.session == old.session and new.refresh != old.refresh
    assert await dialect_client.is_authenticated(new.access)
    again = await refreshed(dialect_client, new.refresh)
    assert await dialect_client.is_authenticated(again.access)


async def test_refresh_records_time_ip_and_user_agent(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await db.execute(
        "update sessions set created_at = created_at - interval '1 hour',"
        " last_used_at = last_used_at - interval '1 hour', ip = '192.0.2.1'"
    )
    body = {"refresh_token": device.refresh}
    response = await client.post("/api/auth/refresh", body, headers={"User-Agent": "Moved/2.0"})
    (session,) = (await client.get("/api/user/sessions", token=Device.of(response).access)).body[
        "sessions"
    ]
    assert session["last_used_at"] > session["created_at"]
    assert (session["ip"], session["user_agent"]) == ("127.0.0.1", "Moved/2.0")


async def test_refresh_can_be_repeated_when_its_response_was_lost(client: Client) -> None:
    device = await client.open_account("alice")
    lost = await refreshed(client, device.refresh)
    again = await refreshed(client, device.refresh)
    assert lost.refresh != again.refresh
    later = await refreshed(client, again.refresh)
    assert await client.is_authenticated(later.access)


@pytest.mark.parametrize("grace", [30, 5])
async def test_replaced_token_is_accepted_within_refresh_grace(
    make_client: MakeClient, db: asyncpg.Connection, grace: int
) -> None:
    client = await make_client(refresh_grace=grace)
    device = await client.open_account("alice")
    await refreshed(client, device.refresh)
    age = "update sessions set rotated_at = rotated_at - make_interval(secs => $1)"
    await db.execute(age, grace - 1)
    sibling = await refreshed(client, device.refresh)
    # The grace period did not begin again: a sibling does not rotate the session.
    await db.execute(age, 1.5)
    assert_reused(await client.refresh(device.refresh))
    assert_error(await client.refresh(sibling.refresh), 401, "refresh_token_revoked", REVOKED)


async def test_replaced_token_is_reuse_immediately_when_grace_is_zero(
    make_client: MakeClient,
) -> None:
    client = await make_client(refresh_grace=0)
    device = await client.open_account("alice")
    await refreshed(client, device.refresh)
    assert_reused(await client.refresh(device.refresh))


async def test_grace_begins_when_rotation_is_committed(
    client: Client, db: asyncpg.Connection
) -> None:
    """A refresh that PostgreSQL executes late must not use up the grace of its own retry."""
    device = await client.open_account("alice")
    async with db.transaction():
        await db.execute("select from sessions for update")
        slow = asyncio.create_task(client.refresh(device.refresh))
        await until_blocked(db, 1)
        released = await db.fetchval("select clock_timestamp()")
    assert (await slow).status == 200
    assert await db.fetchval("select rotated_at from sessions") > released


async def test_rotation_is_committed_without_another_message_to_the_database(
    make_client: MakeClient, network: Network, db: asyncpg.Connection
) -> None:
    """A stall between the statement and a commit of its own would use up the grace."""
    client = await make_client(network.url, user_cache_size=0)
    device = await client.open_account("alice")
    async with db.transaction():
        await db.execute("select from sessions for update")
        refresh = asyncio.create_task(client.refresh(device.refresh))
        await until_blocked(db, 1)
        network.hold()
    # From here on PostgreSQL receives nothing from the service.
    async with asyncio.timeout(20):
        while await db.fetchval("select generation from sessions") == 0:
            pass
    network.free()
    assert (await refresh).status == 200


async def test_token_of_the_generation_before_the_parent_is_reuse_immediately(
    client: Client,
) -> None:
    first = await client.open_account("alice")
    second = await refreshed(client, first.refresh)
    third = await refreshed(client, second.refresh)
    assert_reused(await client.refresh(first.refresh))
    assert_error(await client.refresh(third.refresh), 401, "refresh_token_revoked", REVOKED)
    assert not await client.is_authenticated(third.access)


IPS = {"owner": "192.0.2.1", "thief": "203.0.113.9"}


@pytest.mark.parametrize("first", ["owner", "thief"])
async def test_reuse_ends_the_session_for_the_owner_and_the_thief(
    make_client: MakeClient, db: asyncpg.Connection, first: str
) -> None:
    client = await make_client(trusted_proxies=1)
    stolen = await client.open_account("alice")
    other_device = await client.sign_in("alice")
    headers = {name: {"X-Forwarded-For": host} for name, host in IPS.items()}
    second = "thief" if first == "owner" else "owner"

    async def present(name: str, token: str) -> Response:
        return await client.post(
            "/api/auth/refresh", {"refresh_token": token}, headers=headers[name]
        )

    # The first one refreshes twice. The second one then presents the replaced token.
    held = Device.of(await present(first, stolen.refresh))
    await db.execute(AGE_PAST_GRACE)
    held = Device.of(await present(first, held.refresh))
    await db.execute(AGE_PAST_GRACE)
    assert_reused(await present(second, stolen.refresh))
    reported = "select ip from events where kind = 'refresh_token_reused'"
    assert await db.fetchval(reported) == IPS[second]
    # The end of the session was committed although the response was an error.
    for token in (stolen.refresh, held.refresh):
        assert_error(await client.refresh(token), 401, "refresh_token_revoked", REVOKED)
    for access in (stolen.access, held.access):
        response = await client.get("/api/user", token=access)
        assert_error(response, 401, "token_revoked", {"token": ["has been revoked"]})
    assert await client.is_authenticated(other_device.access)


async def test_theft_within_the_grace_is_detected_at_the_next_refresh(
    client: Client, db: asyncpg.Connection
) -> None:
    stolen = await client.open_account("alice")
    owner = await refreshed(client, stolen.refresh)
    thief = await refreshed(client, stolen.refresh)
    await db.execute(AGE_PAST_GRACE)
    owner = await refreshed(client, owner.refresh)
    await db.execute(AGE_PAST_GRACE)
    assert_reused(await client.refresh(thief.refresh))
    assert not await client.is_authenticated(owner.access) and not await client.is_authenticated(
        thief.access
    )


async def test_refresh_does_not_wait_for_a_lock_on_known_ips(
    client: Client, db: asyncpg.Connection
) -> None:
    """A password change locks the rows, and then waits for the session that is refreshed."""
    device = await client.open_account("alice")
    await db.execute("update known_ips set last_seen = last_seen - interval '2 days'")
    async with db.transaction():
        await db.execute("select from known_ips for update")
        assert (await asyncio.wait_for(client.refresh(device.refresh), 20)).status == 200


async def refresh_concurrently(
    client: Client, db: asyncpg.Connection, device: Device
) -> list[Response]:
    """Send many refreshes of one token, and block them until all connections wait for the lock."""
    async with db.transaction():
        await db.execute("select from sessions for update")
        refreshes = asyncio.gather(*(client.refresh(device.refresh) for _ in range(MANY)))
        await until_blocked(db, client.settings.database_pool_size)
    return await refreshes


async def test_concurrent_refreshes_of_one_token_all_succeed(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    responses = await refresh_concurrently(client, db, device)
    assert Counter(response.status for response in responses) == {200: MANY}
    devices = [Device.of(response) for response in responses]
    assert len({device.refresh for device in devices}) == MANY
    assert {device.session for device in devices} == {device.session}
    assert await db.fetchval("select generation from sessions") == 1
    # Each of the returned tokens works, one after the other.
    last = [await refreshed(client, device.refresh) for device in devices][-1]
    assert await client.is_authenticated(last.access)
    assert await db.fetchval("select count(*) from sessions where ended_at is null") == 1


async def test_concurrent_reuses_of_one_token_are_all_rejected(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await refreshed(client, device.refresh)
    await db.execute(AGE_PAST_GRACE)
    responses = await refresh_concurrently(client, db, device)
    codes = Counter(response.body["code"] for response in responses)
    assert codes == {"refresh_token_reused": 1, "refresh_token_revoked": MANY - 1}
    kinds = "select count(*) from events where kind = 'refresh_token_reused'"
    assert await db.fetchval(kinds) == 1


@pytest.mark.parametrize(
    "change",
    [
        "update sessions set expires_at = now() - interval '1 minute'",
        "update sessions set idle_expires_at = now() - interval '1 minute'",
    ],
    ids=["the session", "the token"],
)
async def test_refresh_says_that_the_token_has_expired(
    client: Client, db: asyncpg.Connection, change: str
) -> None:
    device = await client.open_account("alice")
    await db.execute(change)
    response = await client.refresh(device.refresh)
    expired = {"refresh_token": ["has expired"]}
    assert_error(response, 401, "refresh_token_expired", expired)
    assert response.headers["WWW-Authenticate"] == "Token"


async def test_refresh_extends_the_token_but_not_the_session(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(refresh_token_ttl=1000, session_ttl=1500)
    device = await client.open_account("alice")
    left = "select round(extract(epoch from idle_expires_at - now())) from sessions"
    await db.execute("update sessions set expires_at = expires_at - interval '400 seconds'")
    assert int(await db.fetchval(left)) in (999, 1000)
    device = await refreshed(client, device.refresh)
    await db.execute("update sessions set expires_at = expires_at - interval '400 seconds'")
    device = await refreshed(client, device.refresh)
    assert int(await db.fetchval(left)) in (699, 700)


@pytest.mark.parametrize("token", ["x", "a" * 43, "é" * 10, "😀", "a" * 100_000, "' or true --"])
async def test_refresh_of_an_unknown_token_is_invalid(dialect_client: Client, token: str) -> None:
    response = await dialect_client.refresh(token)
    assert_error(response, 401, "refresh_token_invalid", {"refresh_token": ["is invalid"]})
    assert response.headers["WWW-Authenticate"] == "Token"


async def test_access_token_and_refresh_token_are_not_interchangeable(client: Client) -> None:
    device = await client.open_account("alice")
    assert (await client.refresh(device.access)).body["code"] == "refresh_token_invalid"
    response = await client.get("/api/user", token=device.refresh)
    assert_error(response, 401, "token_invalid", {"token": ["is invalid"]})


async def test_refresh_ignores_the_access_token(client: Client) -> None:
    device = await client.open_account("alice")
    body = {"refresh_token": device.refresh}
    expired = jwt.encode({"exp": 1}, SECRET)
    assert (await client.post("/api/auth/refresh", body, token=expired)).status == 200


BAD_VALUES: list[tuple[Any, str]] = [
    (None, "can't be blank"),
    ("", "can't be blank"),
    (" \t", "can't be blank"),
    (5, "must be a string"),
    (True, "must be a string"),
    (["x"], "must be a string"),
    ({"x": "y"}, "must be a string"),
    ("long\0enough", "has a character that is not allowed"),
]


@pytest.mark.parametrize(("value", "message"), BAD_VALUES, ids=repr)
async def test_refresh_rejects_a_token_that_is_not_a_text(
    dialect_client: Client, dialect: Dialect, value: Any, message: str
) -> None:
    response = await dialect_client.post("/api/auth/refresh", {"refresh_token": value})
    assert_invalid(response, dialect.invalid, refresh_token=message)


BAD_BODIES = {
    "no body": (b"", "body", "is not valid JSON"),
    "a form": (b"refresh_token=x", "body", "is not valid JSON"),
    "a lone surrogate": (b'{"refresh_token": "\\ud800"}', "body", "is not valid JSON"),
    "a list": (b"[]", "body", "must be a JSON object"),
    "another field": (json.dumps({"token": "x"}).encode(), "refresh_token", "can't be blank"),
    "a NUL elsewhere": (b'{"refresh_token": "x", "y": "\\u0000"}', "y", BAD_VALUES[-1][1]),
}


@pytest.mark.parametrize(("raw", "field", "message"), BAD_BODIES.values(), ids=BAD_BODIES)
async def test_refresh_rejects_an_invalid_body(
    dialect_client: Client, dialect: Dialect, raw: bytes, field: str, message: str
) -> None:
    response = await dialect_client.post("/api/auth/refresh", data=raw)
    assert_invalid(response, dialect.invalid, **{field: message})
