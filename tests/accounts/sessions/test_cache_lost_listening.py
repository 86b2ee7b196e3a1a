"""A process that hears no more believes nothing it remembers."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from service.accounts.sessions.authentication import SESSION_CACHE
from service.database import pool
from service.database.change_listener import CHANGE_LISTENER, clock
from tests.accounts.pair import REVOKED, Pair, log_out, queries_of, trusted
from tests.answers import assert_error
from tests.conftest import Client, MakeClient
from tests.network import Network


@pytest.fixture
async def listener_pid(db: asyncpg.Connection) -> AsyncIterator[Callable[[Client], Any]]:
    """Finds the backend that an instance listens on; goes on with it at the end if it stands."""
    stopped: list[int] = []

    async def find(client: Client) -> int:
        name = client.http.app[CHANGE_LISTENER].application_name
        pid = await db.fetchval(
            "select pid from pg_stat_activity where application_name = $1", name
        )
        stopped.append(pid)
        return int(pid)

    yield find
    for pid in stopped:
        try:
            os.kill(pid, signal.SIGCONT)
        except OSError:
            continue


async def test_a_cut_listening_connection_is_noticed_and_made_again(
    pair: Pair, db: asyncpg.Connection, listener_pid: Callable[[Client], Any]
) -> None:
    notifications = pair.there.http.app[CHANGE_LISTENER]
    await db.execute("select pg_terminate_backend($1)", await listener_pid(pair.there))
    while notifications.is_trusted():
        await asyncio.sleep(0.01)
    assert not pair.there.http.app[SESSION_CACHE].users
    await log_out(pair)
    assert (await pair.there.get("/api/user", token=pair.token)).status == 401
    await trusted(pair.there)


async def test_until_it_listens_again_every_request_asks(
    pair: Pair,
    db: asyncpg.Connection,
    listener_pid: Callable[[Client], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notifications = pair.there.http.app[CHANGE_LISTENER]
    monkeypatch.setattr(notifications, "_url", "postgresql://127.0.0.1:1/nowhere")
    await db.execute("select pg_terminate_backend($1)", await listener_pid(pair.there))
    while notifications.is_trusted():
        await asyncio.sleep(0)
    names = queries_of(pair.there, monkeypatch)
    for _ in range(3):
        assert (await pair.there.get("/api/user", token=pair.token)).status == 200
    assert names == ["find_with_user"] * 3


async def test_a_silent_listening_connection_is_not_trusted_for_long(
    make_client: MakeClient, listener_pid: Callable[[Client], Any]
) -> None:
    here = await make_client(user_cache_size=0)
    there = await trusted(await make_client(user_cache_size=100, user_cache_staleness=1))
    token = await here.register("alice")
    assert (await there.get("/api/user", token=token)).status == 200
    # Stopped, the backend neither answers nor closes: what dropped packets look like.
    os.kill(await listener_pid(there), signal.SIGSTOP)
    await here.post("/api/auth/logout", token=token)
    while there.http.app[CHANGE_LISTENER].is_trusted():
        await asyncio.sleep(0.01)
    assert (await there.get("/api/user", token=token)).status == 401


@pytest.mark.parametrize(
    "what", [b"listener_", b""], ids=["of the listener", "of every connection"]
)
async def test_dropped_packets_are_found_out_within_the_bound(
    make_client: MakeClient, network: Network, monkeypatch: pytest.MonkeyPatch, what: bytes
) -> None:
    """No connection ends: nobody says that nothing will arrive any more."""
    monkeypatch.setattr(pool, "COMMAND_TIMEOUT", 0.5)
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr(pool, "RETRY_WINDOW", 0.2)
    here = await make_client(user_cache_size=0)
    there = await trusted(
        await make_client(network.url, user_cache_size=100, user_cache_staleness=1)
    )
    token = await here.register("alice")
    assert (await there.get("/api/user", token=token)).status == 200
    notifications = there.http.app[CHANGE_LISTENER]
    network.hold(what)
    dropped = clock()
    await here.post("/api/auth/logout", token=token)
    while notifications.is_trusted():
        assert notifications.trusted_until <= dropped + 1
        answer = await there.get("/api/user", token=token)
        assert answer.status in ((200, 401) if what else (200, 503))
    told = await there.get("/api/user", token=token)
    if what:
        assert (told.status, told.body) == (401, REVOKED)
    else:
        assert_error(told, 503, "database_unavailable", {"database": ["is not available"]})
