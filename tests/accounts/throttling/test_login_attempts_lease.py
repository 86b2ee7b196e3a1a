"""An attempt is in flight for a limited time. Its password must be verified before that ends."""

import contextlib
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.throttling import login_attempts
from service.accounts.throttling.login_attempts import LoginAttempts
from tests.accounts.logins import CLIENT_HERE, count_failure, counters, login, statuses
from tests.conftest import Client

ALICE = uuid4()


async def test_password_is_not_verified_after_the_deadline(
    client: Client, alice: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its lease the attempt does not count: a verification would be a free guess."""
    await db.execute("delete from throttle")
    monkeypatch.setattr(login_attempts, "MAX_HASH_SECONDS", login_attempts.LEASE)
    assert await statuses(*(login(client, "alice", "alice-secret") for _ in range(5))) == {503: 5}
    rows = await db.fetch("select hits, in_flight from throttle")
    assert {tuple(row) for row in rows} == {(0, 5)}


async def test_attempt_counts_as_in_flight_for_the_lease(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased_long = "select count(*) from throttle where in_flight_until > now() + interval '1 hour'"
    found = []

    async def verify(*_: Any, **__: Any) -> bool:
        found.append(await db.fetchval(leased_long))
        return False

    monkeypatch.setattr(client.http.app[PASSWORDS], "verify", verify)
    for lease in (7200.0, 120.0):
        monkeypatch.setattr(login_attempts, "LEASE", lease)
        await login(client, "nobody")
        await db.execute("update throttle set in_flight_until = '-infinity'")
    assert found == [3, 0]


async def test_attempt_past_its_lease_releases_no_other_attempt(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    """Another attempt was admitted in its place."""
    async with contextlib.AsyncExitStack() as stack:
        async with attempts.admit(ALICE, CLIENT_HERE) as late:
            await db.execute("update throttle set in_flight_until = now()")
            late.verify_deadline = 0.0
            other = await stack.enter_async_context(attempts.admit(ALICE, CLIENT_HERE))
        assert await counters(db) == [(0, 1)] * 3
        await count_failure(other)
    assert await counters(db) == [(1, 0)] * 3


async def test_failure_recorded_after_the_lease_still_counts(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    async with attempts.admit(ALICE, CLIENT_HERE) as late:
        await db.execute("update throttle set in_flight_until = now()")
        async with attempts.admit(ALICE, CLIENT_HERE) as quick:
            await quick.record_success()
        await count_failure(late)
    assert await counters(db) == [(1, 0)] * 3
