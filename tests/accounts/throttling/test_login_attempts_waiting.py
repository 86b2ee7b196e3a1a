"""While attempts in flight fill a limit, further attempts wait: correct logins are not rejected."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from service.accounts.throttling import login_attempts
from service.accounts.throttling.login_attempts import LoginAttempts, LoginKeys
from service.http.errors import Unavailable
from service.settings.settings import Settings
from tests.accounts.logins import CLIENT_HERE, HERE, counters, fail, login, statuses
from tests.conftest import MakeClient

ALICE, BOB = uuid4(), uuid4()


async def test_concurrent_correct_logins_all_succeed(
    make_client: MakeClient,
) -> None:
    clients = [await make_client(), await make_client()]
    await clients[0].register("alice")
    logins = (login(clients[i % 2], "alice", "alice-secret") for i in range(60))
    assert await statuses(*logins) == {200: 60}


async def test_waiting_ends_with_an_error_when_no_outcome_arrives(
    attempts: LoginAttempts, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fail(attempts, ALICE, HERE)
    # A killed process leaves this.
    await db.execute(
        "update throttle set in_flight = 4, in_flight_until = now() + interval '1 minute'"
    )
    monkeypatch.setattr(login_attempts, "MAX_WAIT", 0.0)
    with pytest.raises(Unavailable):
        await fail(attempts, ALICE, HERE)
    await db.execute("update throttle set in_flight_until = now()")
    await fail(attempts, ALICE, HERE)
    assert await counters(db) == [(2, 0)] * 3


async def test_attempt_blocked_by_another_key_leaves_the_wait_queue(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    """Both wait for the IP address. Then it has capacity, but the pair of the first has none."""
    async with attempts.admit(ALICE, CLIENT_HERE):
        keys = LoginKeys(CLIENT_HERE, Settings())
        fill = "update throttle set in_flight = $1 where key = $2"
        await db.execute(fill, 50, keys.ip)
        first = asyncio.create_task(fail(attempts, ALICE, HERE))
        while not (queue := attempts._wait_queues.get(keys.ip)) or not queue.locked():
            await asyncio.sleep(0)
        second = asyncio.create_task(fail(attempts, BOB, HERE))
        while not queue._waiters:
            await asyncio.sleep(0)
        await db.execute(fill, 5, keys.pair(ALICE))
        await db.execute(fill, 1, keys.ip)
        await asyncio.wait_for(second, 20)
        assert not first.done()
        await db.execute(fill, 1, keys.pair(ALICE))
        await asyncio.wait_for(first, 20)
