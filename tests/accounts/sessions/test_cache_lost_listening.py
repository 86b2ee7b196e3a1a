"""A process that has lost its LISTEN connection does not trust its cache."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from service.accounts.sessions.authentication import SESSION_CACHE
from service.database import circuit_breaker, pool
from service.database.change_listener import CHANGE_LISTENER, clock
from tests.accounts.two_instances import (
    REVOKED,
    TwoInstances,
    log_out,
    queries_of,
    wait_until_trusted,
)
from tests.conftest import Client, MakeClient
from tests.network import Network
from tests.responses import assert_error


@pytest.fixture
async def listener_pid(db: asyncpg.Connection) -> AsyncIterator[Callable[[Client], Any]]:
    """Yield a function that returns the pid of the backend of an instance's LISTEN connection.

    Continue stopped backends at the end.
    """
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


async def test_listener_reconnects_when_its_connection_is_terminated(
    instances: TwoInstances, db: asyncpg.Connection, listener_pid: Callable[[Client], Any]
) -> None:
    listener = instances.second.http.app[CHANGE_LISTENER]
    await db.execute("select pg_terminate_backend($1)", await listener_pid(instances.second))
    while listener.is_trusted():
        await asyncio.sleep(0.01)
    assert not instances.second.http.app[SESSION_CACHE].users
    await log_out(instances)
    assert (await instances.second.get("/api/user", token=instances.token)).status == 401
    await wait_until_trusted(instances.second)


async def test_every_request_runs_a_query_while_the_listen_connection_is_lost(
    instances: TwoInstances,
    db: asyncpg.Connection,
    listener_pid: Callable[[Client], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener = instances.second.http.app[CHANGE_LISTENER]
    monkeypatch.setattr(listener, "_url", "postgresql://127.0.0.1:1/nowhere")
    await db.execute("select pg_terminate_backend($1)", await listener_pid(instances.second))
    while listener.is_trusted():
        await asyncio.sleep(0)
    names = queries_of(monkeypatch)
    for _ in range(3):
        assert (await instances.second.get("/api/user", token=instances.token)).status == 200
    assert names == ["find_with_user"] * 3


async def test_listener_is_not_trusted_when_its_backend_is_stopped(
    make_client: MakeClient, listener_pid: Callable[[Client], Any]
) -> None:
    here = await make_client(user_cache_size=0)
    there = await wait_until_trusted(await make_client(user_cache_size=100, user_cache_staleness=1))
    token = await here.register("alice")
    assert (await there.get("/api/user", token=token)).status == 200
    # A stopped backend neither responds nor closes the connection, as when packets are dropped.
    os.kill(await listener_pid(there), signal.SIGSTOP)
    await here.post("/api/auth/logout", token=token)
    while there.http.app[CHANGE_LISTENER].is_trusted():
        await asyncio.sleep(0.01)
    assert (await there.get("/api/user", token=token)).status == 401


@pytest.mark.parametrize(
    "what", [b"listener_", b""], ids=["of the listener", "of every connection"]
)
async def test_listener_is_not_trusted_when_packets_are_dropped(
    make_client: MakeClient, network: Network, monkeypatch: pytest.MonkeyPatch, what: bytes
) -> None:
    """No connection is closed: the process must detect the silence itself."""
    monkeypatch.setattr(pool, "COMMAND_TIMEOUT", 0.5)
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr(circuit_breaker, "RETRY_WINDOW", 0.2)
    here = await make_client(user_cache_size=0)
    there = await wait_until_trusted(
        await make_client(network.url, user_cache_size=100, user_cache_staleness=1)
    )
    token = await here.register("alice")
    assert (await there.get("/api/user", token=token)).status == 200
    listener = there.http.app[CHANGE_LISTENER]
    network.hold(what)
    dropped = clock()
    await here.post("/api/auth/logout", token=token)
    while listener.is_trusted():
        assert listener.trusted_until <= dropped + 1
        response = await there.get("/api/user", token=token)
        assert response.status in ((200, 401) if what else (200, 503))
    response = await there.get("/api/user", token=token)
    if what:
        assert (response.status, response.body) == (401, REVOKED)
    else:
        assert_error(response, 503, "database_unavailable", {"database": ["is not available"]})
