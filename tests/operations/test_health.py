"""``GET /health`` reports whether PostgreSQL responds, and it responds in bounded time."""

import asyncio

import asyncpg
import pytest

from service.database import pool
from tests import pgbouncer
from tests.conftest import MakeClient, until_blocked
from tests.network import Network

CONNECTED = {"status": "ok", "database": "connected"}
DISCONNECTED = {"status": "error", "database": "disconnected"}


SILENCES = {
    "a connection that was used": (True, b""),
    "a new connection": (False, b""),
    "a connection that is being prepared": (False, b"plan_cache_mode"),
}
if pgbouncer.IS_USED:  # Then the service sends no settings.
    del SILENCES["a connection that is being prepared"]


@pytest.mark.parametrize(("used", "hold_of"), SILENCES.values(), ids=SILENCES)
async def test_health_check_responds_in_time_when_the_network_is_silent(
    make_client: MakeClient,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    used: bool,
    hold_of: bytes,
) -> None:
    monkeypatch.setattr(pool, "PING_TIMEOUT", 0.2)
    # No other timeout may end the check: neither that of a release nor that of a connect.
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 3600.0)
    monkeypatch.setattr(pool, "COMMAND_TIMEOUT", 3600.0)
    async with Network(database_url) as network:
        client = await make_client(network.url, user_cache_size=0)
        if used:
            assert (await client.get("/health")).status == 200
        network.hold(hold_of)
        async with asyncio.timeout(20):
            for _ in range(3):
                response = await client.get("/health")
                assert (response.status, response.body) == (503, DISCONNECTED)
                assert response.headers["Retry-After"] == "2"
            network.lose()
            while (await client.get("/health")).body != CONNECTED:
                pass


async def test_health_check_is_positive_while_slow_statements_take_the_whole_pool(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(database_pool_size=1)
    token = await client.register("jake")
    async with db.transaction():
        await db.execute("lock table users")
        change = {"user": {"bio": "x"}}
        waiting = asyncio.create_task(client.put("/api/user", change, token=token))
        await until_blocked(db, 1)
        response = await client.get("/health")
        assert (response.status, response.body) == (200, CONNECTED)
        assert not waiting.done()
    assert (await waiting).status == 200
