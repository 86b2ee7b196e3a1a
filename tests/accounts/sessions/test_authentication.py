"""From an access token to a user, on the real database and with or without the cache."""

import time
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from service.accounts.sessions.authentication import SESSION_CACHE, TOKENS, revoked_token
from service.accounts.sessions.cache import SessionCache
from service.accounts.user import User
from service.http.app_keys import AUTHENTICATE
from service.http.errors import Unauthorized
from tests.accounts.two_instances import wait_until_trusted
from tests.conftest import Client, MakeClient


@pytest.fixture
async def cached(make_client: MakeClient) -> Client:
    """Return a client of the service whose session cache is on and trusted."""
    return await wait_until_trusted(await make_client(user_cache_size=100))


def cache_of(client: Client) -> SessionCache:
    cache: SessionCache = client.http.app[SESSION_CACHE]
    return cache


async def authenticate(client: Client, token: str) -> Any:
    assert client.http.app is not None
    return await client.http.app[AUTHENTICATE](token)


async def code_of(client: Client, token: str) -> str:
    with pytest.raises(Unauthorized) as raised:
        await authenticate(client, token)
    return str(raised.value.code)


async def test_authenticate_returns_the_user_and_the_session(client: Client) -> None:
    device = await client.open_account("alice")
    for _ in range(2):  # The second time from the cache, if it is on.
        user = await authenticate(client, device.access)
        assert isinstance(user, User)
        assert (user.username, str(user.session_id)) == ("alice", device.session)


async def test_authenticate_raises_when_the_session_has_ended(client: Client) -> None:
    device = await client.open_account("alice")
    await client.post("/api/auth/logout", token=device.access)
    assert await code_of(client, device.access) == "token_revoked"


async def test_authenticate_raises_when_the_account_is_closed(client: Client) -> None:
    token = await client.register("alice")
    await client.delete("/api/user", {"user": {"password": "alice-secret"}}, token=token)
    assert await code_of(client, token) == "token_revoked"


async def test_authenticate_raises_when_the_session_has_expired(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    cache_of(client).clear()
    await db.execute(
        "update sessions set expires_at = now() - interval '1 second' where id = $1",
        device.session,
    )
    assert await code_of(client, device.access) == "token_revoked"


async def test_authenticate_queries_the_database_when_the_token_outlives_the_cached_session(
    cached: Client,
) -> None:
    device = await cached.open_account("alice")
    user = await authenticate(cached, device.access)
    stale = replace(user, username="stale")
    cache_of(cached).put_user(stale)
    assert (await authenticate(cached, device.access)).username == "stale"
    cache_of(cached).put_user(replace(stale, session_expires_at=time.time()))
    assert (await authenticate(cached, device.access)).username == "alice"


async def test_authenticate_verifies_a_token_again_when_its_cached_claims_have_expired(
    cached: Client,
) -> None:
    token = await cached.register("alice")
    await authenticate(cached, token)
    claims = cache_of(cached).claims[token]
    cache_of(cached).put_claims(token, replace(claims, expires_at=int(time.time()) - 1))
    assert (await authenticate(cached, token)).username == "alice"
    assert cache_of(cached).claims[token] == claims


async def test_authenticate_rejects_an_expired_token_although_its_user_is_cached(
    cached: Client,
) -> None:
    token = await cached.register("alice")
    user = await authenticate(cached, token)
    assert cached.http.app is not None
    tokens = cached.http.app[TOKENS]
    expired = tokens.issue(user.id, user.session_id, time.time() - 1).token
    assert await code_of(cached, expired) == "token_expired"


def test_revoked_token_has_a_code_of_its_own_when_the_device_was_evicted() -> None:
    codes = {reason: revoked_token(reason).code for reason in (None, "logged_out", "evicted")}
    assert codes == {
        None: "token_revoked",
        "logged_out": "token_revoked",
        "evicted": "session_evicted",
    }
