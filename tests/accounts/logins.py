"""Helpers of tests with logins: from any IP address, many at once, and their counters."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import asyncpg
import pytest

import sql
from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.throttling.login_attempts import Attempt, Failure, LoginAttempts
from service.http.client import Client as HttpClient
from tests.conftest import Client, Response

HERE, ELSEWHERE = "192.0.2.1", "198.51.100.1"
CLIENT_HERE = HttpClient.at(HERE)
WRONG = "wrong"
LOCKED = {"errors": {"credentials": ["too many attempts"]}, "code": "too_many_attempts"}


async def login(client: Client, name: str, password: str = WRONG, *, ip: str = HERE) -> Response:
    """Log in as ``name`` and return the response. ``ip`` has an effect only behind a proxy."""
    user = {"email": f"{name}@example.test", "password": password}
    headers = {"X-Forwarded-For": ip}
    return await client.post("/api/users/login", {"user": user}, headers=headers)


def host(number: int, site: str = "2001:db8:0") -> str:
    """Return an IP address in a /64 of its own inside ``site``, a /48."""
    return f"{site}:{number + 1:x}::1"


async def statuses(*requests: Any) -> Counter[int]:
    """Send the requests concurrently, and count the responses of each status."""
    return Counter(response.status for response in await asyncio.gather(*requests))


async def exhaust_account(client: Client, name: str) -> None:
    """Fail 50 logins of an account: five from each of ten IP addresses."""
    for number in range(10):
        logins = (login(client, name, ip=f"203.0.113.{number}") for _ in range(5))
        assert await statuses(*logins) == {401: 5}


async def fail(attempts: LoginAttempts, account_id: UUID, ip: str) -> bool:
    """Record a wrong password, and return whether it reached a limit of the account."""
    async with attempts.admit(account_id, HttpClient.at(ip)) as attempt:
        return await count_failure(attempt)


async def count_failure(attempt: Attempt) -> bool:
    """Record the failure of an attempt, and return whether it reached a limit of the account."""
    reached = []

    async def write_events(_: sql.Connection, failure: Failure) -> None:
        reached.append(failure.is_locked_out)

    await attempt.record_failure(write_events)
    return reached[-1]


async def counters(db: asyncpg.Connection) -> list[tuple[int, int]]:
    """Return the failures and the attempts in flight of each counter, in ascending order."""
    rows = await db.fetch("select hits, in_flight from throttle order by hits, in_flight")
    return [tuple(row) for row in rows]


def count_hashes(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each password that the hasher verifies from now on is added."""
    given: list[str] = []
    hasher = client.http.app[PASSWORDS]
    verify = hasher.verify

    async def recorded(password: str, *arguments: Any) -> bool:
        given.append(password)
        return bool(await verify(password, *arguments))

    monkeypatch.setattr(hasher, "verify", recorded)
    return given


async def end_windows(db: asyncpg.Connection) -> None:
    """End the window of each counter that ends within an hour."""
    await db.execute("update throttle set ends_at = ends_at - interval '1 hour'")
