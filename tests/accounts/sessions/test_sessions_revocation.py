"""A change in one process applies in every process after its invalidation arrived."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import jwt
import pytest

import sql
from service.accounts.sessions.authentication import SESSION_CACHE
from service.database.change_listener import CHANGE_LISTENER
from service.database.pool import DATABASE
from tests.accounts.two_instances import (
    REVOKED,
    TwoInstances,
    log_out,
    queries_of,
    wait_until_trusted,
)
from tests.conftest import SECRET, SIGNS_WITH_HS256, MakeClient

PASSWORD = "alice-secret"
LOGIN = {"user": {"email": "alice@example.test", "password": PASSWORD}}


async def test_request_of_a_cached_user_runs_no_query(
    instances: TwoInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = queries_of(monkeypatch)
    for _ in range(3):
        assert (await instances.second.get("/api/user", token=instances.token)).status == 200
    assert names == []


async def test_every_request_runs_a_query_when_the_cache_is_disabled(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(user_cache_size=0)
    token = await client.register("alice")
    names = queries_of(monkeypatch)
    for _ in range(3):
        assert (await client.get("/api/user", token=token)).status == 200
    assert names == ["find_with_user"] * 3


async def end_from_another_device(instances: TwoInstances) -> None:
    other = (await instances.first.post("/api/users/login", LOGIN)).body["user"]["token"]
    assert (await instances.first.delete("/api/user/sessions", token=other)).status == 204


async def change_the_password(instances: TwoInstances) -> None:
    other = (await instances.first.post("/api/users/login", LOGIN)).body["user"]["token"]
    change = {"user": {"password": "another secret"}}
    assert (await instances.first.put("/api/user", change, token=other)).status == 200


async def delete_the_account(instances: TwoInstances) -> None:
    body = {"user": {"password": PASSWORD}}
    assert (await instances.first.delete("/api/user", body, token=instances.token)).status == 204


ENDINGS = [log_out, end_from_another_device, change_the_password, delete_the_account]


@pytest.mark.parametrize("end", ENDINGS)
async def test_end_of_a_session_in_one_process_revokes_its_tokens_in_another(
    instances: TwoInstances, end: Callable[[TwoInstances], Awaitable[None]]
) -> None:
    await end(instances)
    response = await instances.after_sync()
    assert (response.status, response.body) == (401, REVOKED)


@pytest.mark.parametrize("end", ENDINGS)
async def test_end_of_a_session_revokes_its_tokens_at_the_next_request_of_the_same_process(
    instances: TwoInstances, end: Callable[[TwoInstances], Awaitable[None]]
) -> None:
    assert (await instances.first.get("/api/user", token=instances.token)).status == 200
    await end(instances)
    response = await instances.first.get("/api/user", token=instances.token)
    assert (response.status, response.body) == (401, REVOKED)


async def test_eviction_in_one_process_revokes_tokens_in_another(
    instances: TwoInstances, make_client: MakeClient
) -> None:
    limited = await make_client(session_limit=1)
    assert (await limited.post("/api/users/login", LOGIN)).status == 200
    response = await instances.after_sync()
    assert (response.status, response.body["code"]) == (401, "session_evicted")


async def test_change_of_the_profile_is_shown_by_another_process(instances: TwoInstances) -> None:
    await instances.first.put("/api/user", {"user": {"bio": "new"}}, token=instances.token)
    assert (await instances.first.get("/api/user", token=instances.token)).body["user"][
        "bio"
    ] == "new"
    assert (await instances.after_sync()).body["user"]["bio"] == "new"


async def test_reads_concurrent_with_changes_leave_no_old_user_in_the_cache(
    instances: TwoInstances,
) -> None:
    """Without stale marks a slow query result would be cached after the invalidation."""

    async def read() -> None:
        for _ in range(60):
            instances.second.http.app[SESSION_CACHE].clear()
            await instances.second.get("/api/user", token=instances.token)

    async def write() -> None:
        for number in range(60):
            change = {"user": {"bio": f"bio {number}"}}
            assert (
                await instances.first.put("/api/user", change, token=instances.token)
            ).status == 200

    await asyncio.gather(write(), *(read() for _ in range(8)))
    assert (await instances.after_sync()).body["user"]["bio"] == "bio 59"


@pytest.fixture
def delay_results(
    instances: TwoInstances, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[asyncio.Event, asyncio.Event]]:
    """Return a function that delays the query results of one process.

    It returns two events: one is set when a result has arrived, the other releases the result.
    """

    def delay() -> tuple[asyncio.Event, asyncio.Event]:
        database, arrived, release = (
            instances.second.http.app[DATABASE],
            asyncio.Event(),
            asyncio.Event(),
        )
        run = database.run

        async def run_slowly(query: sql.Query, arguments: list[Any]) -> Any:
            result = await run(query, arguments)
            if query.name == "find_with_user":
                arrived.set()
                await release.wait()
            return result

        monkeypatch.setattr(database, "run", run_slowly)
        return arrived, release

    return delay


async def test_result_is_not_cached_when_an_invalidation_arrived_during_its_query(
    instances: TwoInstances, delay_results: Callable[[], tuple[asyncio.Event, asyncio.Event]]
) -> None:
    cache = instances.second.http.app[SESSION_CACHE]
    cache.clear()
    arrived, release = delay_results()
    request = asyncio.create_task(instances.second.get("/api/user", token=instances.token))
    await arrived.wait()
    await log_out(instances)
    await instances.second.http.app[CHANGE_LISTENER].wait_until_applied()
    release.set()
    assert (await request).status == 200, "the query ran before the logout"
    assert not cache.users
    assert (await instances.second.get("/api/user", token=instances.token)).status == 401


async def test_result_is_not_cached_when_its_query_began_while_the_listener_was_not_trusted(
    instances: TwoInstances, delay_results: Callable[[], tuple[asyncio.Event, asyncio.Event]]
) -> None:
    """A change before the process listens sends it no notification."""
    cache, listener = (
        instances.second.http.app[SESSION_CACHE],
        instances.second.http.app[CHANGE_LISTENER],
    )
    cache.clear()
    listener.trusted_until = 0.0
    arrived, release = delay_results()
    request = asyncio.create_task(instances.second.get("/api/user", token=instances.token))
    await arrived.wait()
    assert not listener.is_trusted()
    await wait_until_trusted(instances.second)
    # Remove the stale mark of `clear`, as if the cache had been cleared before the query.
    for load in cache._loads:
        load.stale = False
    release.set()
    assert (await request).status == 200
    assert not cache.users


async def test_cache_is_bounded(make_client: MakeClient) -> None:
    client = await wait_until_trusted(await make_client(user_cache_size=3))
    await client.register("alice")
    tokens = [
        (await client.post("/api/users/login", LOGIN)).body["user"]["token"] for _ in range(10)
    ]
    for token in tokens:
        assert (await client.get("/api/user", token=token)).status == 200
    cache = client.http.app[SESSION_CACHE]
    assert len(cache.users) == len(cache.claims) == 3
    assert list(cache.claims) == tokens[-3:]
    # The index of sessions by user is removed with the user.
    await client.delete("/api/user", {"user": {"password": PASSWORD}}, token=tokens[-1])
    assert (cache.users, cache._sessions) == ({}, {})


async def test_cached_session_ends_at_its_new_expiry(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    await db.execute("update sessions set expires_at = now() + interval '2 seconds'")
    assert (await instances.after_sync()).status == 200
    (user,) = instances.second.http.app[SESSION_CACHE].users.values()
    async with asyncio.timeout(20):
        while time.time() < user.session_expires_at:
            await asyncio.sleep(0.01)
    response = await instances.second.get("/api/user", token=instances.token)
    assert (response.status, response.body) == (401, REVOKED)


@pytest.mark.parametrize("table", ["users", "sessions"])
async def test_truncate_clears_the_cache(
    instances: TwoInstances, db: asyncpg.Connection, table: str
) -> None:
    await db.execute(f"truncate {table} cascade")
    assert (await instances.after_sync()).status == 401


@SIGNS_WITH_HS256
async def test_cached_session_authenticates_only_its_user(instances: TwoInstances) -> None:
    bob = await instances.second.register("bob")
    assert (await instances.second.get("/api/user", token=bob)).status == 200
    alice_claims, bob_claims = (
        jwt.decode(token, SECRET, ["HS256"]) for token in (instances.token, bob)
    )
    forged = jwt.encode({**alice_claims, "sid": bob_claims["sid"]}, SECRET)
    response = await instances.second.get("/api/user", token=forged)
    assert (response.status, response.body) == (401, REVOKED)


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_slow_body_changes_nothing_when_its_session_has_ended(
    instances: TwoInstances, db: asyncpg.Connection, method: str
) -> None:
    article = {"article": {"title": "t", "description": "d", "body": "b"}}
    assert (
        await instances.first.post("/api/articles", article, token=instances.token)
    ).status == 201
    path = "/api/articles" if method == "POST" else "/api/articles/t"
    article["article"]["body"] = "changed"
    body = json.dumps(article).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", instances.second.http.server.port)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Token {instances.token}\r\n"
    head += f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    # The service requests the body: it has accepted the token.
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    await log_out(instances)
    assert (await instances.after_sync()).status == 401
    writer.write(body)
    assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
    writer.close()
    assert await db.fetch("select body from articles") == [("b",)]
