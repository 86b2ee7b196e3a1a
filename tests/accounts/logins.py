"""Logins of the tests: from any address, many at once."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from service.accounts.passwords.hasher import PASSWORDS
from tests.conftest import Answer, Client

HERE, ELSEWHERE = "192.0.2.1", "198.51.100.1"
WRONG = "wrong"
LOCKED = {"errors": {"credentials": ["too many attempts"]}, "code": "too_many_attempts"}


async def login(client: Client, name: str, password: str = WRONG, *, address: str = HERE) -> Answer:
    """Sign in as ``name`` from ``address``, which counts only behind a proxy."""
    user = {"email": f"{name}@example.test", "password": password}
    headers = {"X-Forwarded-For": address}
    return await client.post("/api/users/login", {"user": user}, headers=headers)


async def statuses(*logins: Any) -> Counter[int]:
    """How often each status came back, of logins that start together."""
    return Counter(answer.status for answer in await asyncio.gather(*logins))


async def exhaust_account(client: Client, name: str) -> None:
    """Fail 50 times, five times each from ten addresses."""
    for host in range(10):
        logins = (login(client, name, address=f"203.0.113.{host}") for _ in range(5))
        assert await statuses(*logins) == {401: 5}


def count_hashes(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that the hasher is given from now on."""
    given: list[str] = []
    hasher = client.http.app[PASSWORDS]
    verify = hasher.verify

    async def noted(password: str, *arguments: Any) -> bool:
        given.append(password)
        return await verify(password, *arguments)

    monkeypatch.setattr(hasher, "verify", noted)
    return given


async def end_windows(db: asyncpg.Connection) -> None:
    await db.execute("update throttle set ends_at = ends_at - interval '1 hour'")
