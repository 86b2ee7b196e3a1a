"""When a process believes what it heard, and who waits for that."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from service.database.notifications import NOTIFICATIONS, Notifications
from tests.conftest import Client, Device, MakeClient
from tests.network import Network

LISTENER = b"heartbeat_"


@pytest.fixture
async def network(database_url: str) -> AsyncIterator[Network]:
    """A way to the database that a test may break."""
    async with Network(database_url) as network:
        yield network


async def trusted(notifications: Notifications) -> None:
    """Return once it listens and may be believed."""
    async with asyncio.timeout(20):
        while not notifications.is_trusted():
            await asyncio.sleep(0)


@pytest.fixture
async def client(make_client: MakeClient, network: Network) -> Client:
    """A client of the service, whose notifications travel through the network."""
    client = await make_client(network.url, user_cache_size=100, user_cache_staleness=1)
    await trusted(client.http.app[NOTIFICATIONS])
    return client


async def log_out(client: Client, device: Device) -> int:
    return (await client.post("/api/auth/logout", token=device.access)).status


async def show_a_used_token(client: Client, device: Device) -> int:
    return (await client.refresh(device.refresh)).status


@pytest.mark.parametrize(("end", "status"), [(log_out, 204), (show_a_used_token, 401)])
async def test_a_change_is_answered_once_it_was_heard_or_nothing_is_believed(
    client: Client,
    network: Network,
    end: Callable[[Client, Device], Awaitable[int]],
    status: int,
) -> None:
    """Also one that comes with an error. Afterwards the process listens again."""
    notifications = client.http.app[NOTIFICATIONS]
    first = await client.open_account("alice")
    second = Device.of(await client.refresh(first.refresh))
    newest = Device.of(await client.refresh(second.refresh))
    assert await client.lives(newest.access)
    network.hold(LISTENER)
    ending = asyncio.create_task(end(client, first))
    while notifications.is_trusted():
        assert not ending.done()
        await asyncio.sleep(0)
    assert await asyncio.wait_for(ending, 20) == status
    assert not await client.lives(newest.access)
    network.free()
    await trusted(notifications)


async def test_belief_counts_from_the_sending_of_a_heartbeat(
    client: Client, network: Network
) -> None:
    """What was committed while the heartbeat was under way need not have come before it."""
    notifications = client.http.app[NOTIFICATIONS]
    network.hold(LISTENER)
    await network.held.wait()
    before, freed = notifications.trusted_until, time.monotonic()
    network.free()
    while notifications.trusted_until == before:
        await asyncio.sleep(0)
    assert notifications.trusted_until < freed + 1


async def test_who_changes_nothing_causes_no_heartbeat(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(user_cache_size=100, user_cache_staleness=60)
    notifications = client.http.app[NOTIFICATIONS]
    token = await client.register("alice")
    await trusted(notifications)
    beats: list[object] = []
    await db.add_listener(notifications.own_channel, lambda *beat: beats.append(beat))
    for _ in range(5):
        assert (await client.post("/nowhere")).status == 404
        assert (await client.post("/api/auth/logout")).status == 401
        assert (await client.put("/api/user", {"user": {}}, token=token)).status == 400
    await db.execute("select")
    assert beats == []
    assert (await client.put("/api/user", {"user": {"bio": "new"}}, token=token)).status == 200
    await db.execute("select")
    assert len(beats) == 1


async def test_each_loss_and_each_recovery_is_logged_once(
    make_client: MakeClient, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = await make_client(user_cache_size=100)
    notifications = client.http.app[NOTIFICATIONS]
    await trusted(notifications)
    for _ in range(2):
        await db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1",
            notifications.own_channel,
        )
        while notifications.is_trusted():
            await asyncio.sleep(0)
        await trusted(notifications)
    told = [r.getMessage() for r in caplog.records if "listening" in r.getMessage()]
    lost = "listening was lost, every request asks"
    assert [line.partition(":")[0] for line in told] == [lost, "listening again"] * 2
