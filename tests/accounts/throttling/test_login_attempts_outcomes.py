"""An attempt is counted, released or reset exactly once, in the window that admitted it."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.throttling.login_attempts import LoginAttempts
from service.http.error_codes import ErrorCode
from service.http.errors import TooManyAttempts, Unavailable
from tests.accounts.logins import (
    CLIENT_HERE,
    HERE,
    count_failure,
    counters,
    fail,
    login,
    statuses,
)
from tests.conftest import Client, until_blocked

ALICE, BOB = uuid4(), uuid4()


async def test_login_is_released_when_the_hash_queue_is_full(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_: Any) -> bool:
        raise Unavailable("server", "is too busy", code=ErrorCode.PASSWORDS_BUSY, retry_after=5)

    monkeypatch.setattr(client.http.app[PASSWORDS], "verify", busy)
    assert await statuses(*(login(client, "alice") for _ in range(50))) == {503: 50}
    assert await counters(db) == []


async def test_login_is_released_when_its_client_disconnects(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    hashing = asyncio.Event()

    async def attempt() -> None:
        async with attempts.admit(ALICE, CLIENT_HERE):
            hashing.set()
            await asyncio.Future()

    task = asyncio.create_task(attempt())
    await hashing.wait()
    assert await counters(db) == [(0, 1)] * 3
    task.cancel()
    await asyncio.wait([task])
    assert await counters(db) == []


async def test_release_keeps_the_counts_of_others(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    await fail(attempts, ALICE, HERE)
    async with attempts.admit(ALICE, CLIENT_HERE):
        async with attempts.admit(ALICE, CLIENT_HERE):
            assert await counters(db) == [(1, 2)] * 3
        assert await counters(db) == [(1, 1)] * 3
    assert await counters(db) == [(1, 0)] * 3


async def test_release_keeps_an_attempt_admitted_while_it_waits_for_the_lock(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    leave = asyncio.Event()

    async def attempt() -> None:
        async with attempts.admit(ALICE, CLIENT_HERE):
            await leave.wait()

    task = asyncio.create_task(attempt())
    while await counters(db) != [(0, 1)] * 3:
        await asyncio.sleep(0)
    async with db.transaction():
        await db.execute("update throttle set in_flight = in_flight + 1")
        leave.set()
        await until_blocked(db, 1)
    await task
    assert await counters(db) == [(0, 1)] * 3


async def test_attempts_that_wait_for_the_lock_together_do_not_exceed_the_limit(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    for _ in range(4):
        await fail(attempts, ALICE, HERE)
    async with db.transaction():
        await db.execute("select from throttle for update")
        guesses = [asyncio.create_task(fail(attempts, ALICE, HERE)) for _ in range(5)]
        await until_blocked(db, 5)
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert Counter(map(type, results)) == {bool: 1, TooManyAttempts: 4}
    assert await counters(db) == [(5, 0)] * 3


async def test_attempt_of_an_earlier_window_is_not_counted_in_the_current_one(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    async with attempts.admit(ALICE, CLIENT_HERE) as old:
        await db.execute("update throttle set ends_at = now()")
        async with attempts.admit(ALICE, CLIENT_HERE) as new:
            assert await count_failure(old) is False
            assert await counters(db) == [(0, 1)] * 3
            await count_failure(new)
    assert await counters(db) == [(1, 0)] * 3


async def test_success_keeps_other_attempts_in_flight(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    async with attempts.admit(ALICE, CLIENT_HERE) as wrong:
        async with attempts.admit(ALICE, CLIENT_HERE) as right:
            await right.record_success()
        await count_failure(wrong)
    assert await counters(db) == [(1, 0)] * 3


async def test_failure_reports_a_reached_limit_of_the_account_once_per_window(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    assert [await fail(attempts, ALICE, HERE) for _ in range(5)] == [False] * 4 + [True]
    with pytest.raises(TooManyAttempts):
        await fail(attempts, ALICE, HERE)
    reported = [await fail(attempts, ALICE, f"203.0.113.{i}") for i in range(45)]
    assert reported == [False] * 44 + [True]
    await db.execute("update throttle set ends_at = now()")
    assert [await fail(attempts, ALICE, HERE) for _ in range(5)] == [False] * 4 + [True]


async def test_failure_does_not_report_a_reached_limit_of_the_ip(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    assert not any([await fail(attempts, uuid4(), HERE) for i in range(50)])
    with pytest.raises(TooManyAttempts):
        await fail(attempts, ALICE, HERE)
