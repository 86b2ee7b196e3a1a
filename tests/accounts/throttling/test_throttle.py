"""Limits on registrations, refreshes and password changes, and the deletion of expired counters."""

from typing import Any
from uuid import uuid4

import asyncpg
import pytest

import sql
from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.throttling.login_attempts import LoginAttempts
from service.accounts.throttling.throttle import Throttle
from service.database.pool import Database
from service.http.client import Client as HttpClient
from service.settings.rate_limit import Limit
from service.settings.settings import Settings
from tests.accounts.logins import HERE, counters, fail, statuses
from tests.conftest import MakeClient

ALICE, BOB = uuid4(), uuid4()


async def test_registrations_past_the_limit_of_an_ip_are_rejected(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(registration_limit=Limit(3, 60), trusted_proxies=1)

    async def register(number: int, ip: str = HERE) -> Any:
        name = f"user{number}"
        user = {"username": name, "email": f"{name}@example.test", "password": "long enough"}
        headers = {"X-Forwarded-For": ip}
        return await client.post("/api/users", {"user": user}, headers=headers)

    assert await statuses(*(register(i) for i in range(20))) == {200: 3, 429: 17}
    rejected = await register(30)
    assert rejected.body == {
        "errors": {"registration": ["too many attempts"]},
        "code": "too_many_attempts",
    }
    assert 1 <= int(rejected.headers["Retry-After"]) <= 60
    assert (await register(31, "192.0.2.2")).status == 200
    await db.execute("update throttle set ends_at = now()")
    assert (await register(32)).status == 200


async def test_changes_of_email_and_username_count_as_registrations(
    make_client: MakeClient,
) -> None:
    client = await make_client(registration_limit=Limit(3, 60))
    token = await client.register("alice")
    unchanged = {"bio": "free", "username": "ALICE", "email": "alice@example.test"}
    for _ in range(5):
        assert (await client.put("/api/user", {"user": unchanged}, token=token)).status == 200
    for name, status in (("bobby", 200), ("alice", 200), ("carol", 429)):
        response = await client.put("/api/user", {"user": {"username": name}}, token=token)
        assert response.status == status
    assert int(response.headers["Retry-After"]) <= 60


async def test_concurrent_refreshes_past_the_limit_of_an_ip_are_rejected(
    make_client: MakeClient,
) -> None:
    client = await make_client(refresh_limit=Limit(3, 60))
    assert await statuses(*(client.refresh("unknown") for _ in range(20))) == {401: 3, 429: 17}
    rejected = await client.refresh("unknown")
    assert rejected.body["errors"] == {"refresh": ["too many attempts"]}
    assert 1 <= int(rejected.headers["Retry-After"]) <= 60


async def test_refreshes_are_not_counted_without_a_limit(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(refresh_limit=Limit(0, 60))
    device = await client.open_account("alice")
    await db.execute("delete from throttle")
    assert (await client.refresh(device.refresh)).status == 200
    assert await db.fetchval("select count(*) from throttle") == 0


async def test_session_stays_active_when_its_refresh_is_rejected(
    make_client: MakeClient,
) -> None:
    client = await make_client(refresh_limit=Limit(3, 60))
    device = await client.open_account("alice")
    responses = [await client.refresh("unknown") for _ in range(3)]
    assert [response.status for response in responses] == [401] * 3
    rejected = await client.refresh(device.refresh)
    assert (rejected.status, rejected.body["code"]) == (429, "too_many_attempts")
    assert int(rejected.headers["Retry-After"]) in range(1, 61)
    assert await client.is_authenticated(device.access)


async def test_password_changes_past_the_limit_of_a_user_are_rejected_before_hashing(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, db: asyncpg.Connection
) -> None:
    settings = {"password_change_limit": Limit(3, 60), "trusted_proxies": 1}
    clients = [await make_client(**settings), await make_client(**settings)]
    token = await clients[0].register("alice")
    bob = await clients[0].register("bob")
    hashed: list[str] = []
    for client in clients:
        hasher = client.http.app[PASSWORDS]

        async def noted(*arguments: Any, hash_: Any = hasher.hash) -> str:
            hashed.append(arguments[0])
            return str(await hash_(*arguments))

        monkeypatch.setattr(hasher, "hash", noted)

    async def change(number: int, token: str, **fields: str) -> Any:
        headers = {"X-Forwarded-For": f"203.0.113.{number}"}
        body = {"user": {"password": "another one", **fields}}
        return await clients[number % 2].put("/api/user", body, token=token, headers=headers)

    # The session of the request stays open, so every counted change succeeds. Another IP address,
    # process or name of the account does not begin a new count.
    assert await statuses(*(change(n, token) for n in range(20))) == {200: 3, 429: 17}
    assert len(hashed) == 3
    rejected = await change(20, token, username="alicia", email="alicia@example.test")
    assert rejected.body == {
        "errors": {"password": ["too many attempts"]},
        "code": "too_many_attempts",
    }
    assert 1 <= int(rejected.headers["Retry-After"]) <= 60
    renamed = {"user": {"username": "alicia", "email": "alicia@example.test"}}
    assert (await clients[0].put("/api/user", renamed, token=token)).status == 200
    assert (await change(21, token)).status == 429
    assert (await change(22, bob)).status == 200
    await db.execute("update throttle set ends_at = now()")
    assert (await change(23, token)).status == 200


async def test_release_changes_nothing_in_a_later_window(
    database: Database, db: asyncpg.Connection
) -> None:
    throttle = Throttle(database, Settings())
    old = await throttle.admit_conflict(HttpClient.at("2001:db8::1"))
    await db.execute("update throttle set ends_at = now() where hits = 1")
    new = await throttle.admit_conflict(HttpClient.at("2001:db8::1"))
    await throttle.release_conflict(old)
    assert await counters(db) == [(1, 0)] * 2
    await throttle.release_conflict(new)
    assert await counters(db) == [(0, 0)] * 2


async def test_expired_counters_are_deleted_in_batches(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    await fail(attempts, ALICE, HERE)
    await db.execute("update throttle set ends_at = now()")
    await fail(attempts, BOB, "192.0.2.2")
    assert await sql.throttle.delete_expired(db, limit=2) == 2
    assert await sql.throttle.delete_expired(db, limit=2) == 1
    assert await sql.throttle.delete_expired(db, limit=2) == 0
    assert await counters(db) == [(1, 0)] * 3


def test_default_limits_allow_a_test_suite_from_one_ip() -> None:
    settings = Settings()
    assert settings.registration_limit == Limit(10_000, 3600)
    assert settings.refresh_limit == Limit(100_000, 3600)


async def test_wait_is_never_longer_than_the_window(
    db: asyncpg.Connection, database_url: str
) -> None:
    other = await asyncpg.connect(database_url)
    async with db.transaction():
        # The time of this transaction is before that of the one that opens the window.
        await db.execute("select now()")
        await sql.throttle.hit(other, key=b"key", max_count=1, seconds=60)
        row = await sql.throttle.hit(db, key=b"key", max_count=1, seconds=60)
    await other.close()
    assert (row["admitted"], row["retry_after"]) == (False, 60)
