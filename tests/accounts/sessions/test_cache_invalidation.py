"""When a process trusts its cache, and which responses wait for an invalidation."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import asyncpg
import pytest

import sql
from service.accounts.sessions.authentication import SESSION_CACHE
from service.database import change_listener as change_listener_module
from service.database.change_listener import CHANGE_LISTENER, ChangeListener, clock
from service.database.pool import Database
from tests.conftest import Client, Device, MakeClient
from tests.network import Network

LISTENER = b"listener_"


async def wait_until_trusted(listener: ChangeListener) -> None:
    """Wait until the process listens and trusts its cache."""
    async with asyncio.timeout(20):
        while not listener.is_trusted():
            await asyncio.sleep(0.001)


@pytest.fixture
async def client(make_client: MakeClient, network: Network) -> Client:
    """Return a client of a service whose connections go through ``network``."""
    client = await make_client(network.url, user_cache_size=100, user_cache_staleness=1)
    await wait_until_trusted(client.http.app[CHANGE_LISTENER])
    return client


async def log_out(client: Client, device: Device) -> int:
    return (await client.post("/api/auth/logout", token=device.access)).status


async def show_a_used_token(client: Client, device: Device) -> int:
    return (await client.refresh(device.refresh)).status


@pytest.mark.parametrize(("end", "status"), [(log_out, 204), (show_a_used_token, 401)])
async def test_response_to_a_change_waits_until_it_is_applied_or_the_cache_is_disabled(
    client: Client,
    network: Network,
    end: Callable[[Client, Device], Coroutine[Any, Any, int]],
    status: int,
) -> None:
    """The same holds for an error response. Afterwards the process listens again."""
    listener = client.http.app[CHANGE_LISTENER]
    first = await client.open_account("alice")
    second = Device.of(await client.refresh(first.refresh))
    newest = Device.of(await client.refresh(second.refresh))
    assert await client.is_authenticated(newest.access)
    network.hold(LISTENER)
    ending = asyncio.create_task(end(client, first))
    while listener.is_trusted():
        assert not ending.done()
        await asyncio.sleep(0.001)
    assert await asyncio.wait_for(ending, 20) == status
    assert not await client.is_authenticated(newest.access)
    network.free()
    await wait_until_trusted(listener)


async def test_trust_is_counted_from_the_sending_of_a_heartbeat(
    client: Client, network: Network
) -> None:
    """A change that commits while the heartbeat is in transit may arrive after it."""
    listener = client.http.app[CHANGE_LISTENER]
    network.hold(LISTENER)
    await network.held.wait()
    before, freed = listener.trusted_until, clock()
    network.free()
    while listener.trusted_until == before:
        await asyncio.sleep(0)
    assert listener.trusted_until < freed + 1


async def test_request_that_changes_nothing_sends_no_heartbeat(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(user_cache_size=100, user_cache_staleness=60)
    listener = client.http.app[CHANGE_LISTENER]
    device = await client.open_account("alice")
    token, refresh_token = device.access, device.refresh
    await wait_until_trusted(listener)
    beats: list[object] = []
    await db.add_listener(listener.own_channel, lambda *beat: beats.append(beat))
    for _ in range(5):
        assert (await client.post("/nowhere")).status == 404
        assert (await client.post("/api/auth/logout")).status == 401
        assert (await client.put("/api/user", {"user": {}}, token=token)).status == 400
        # A rotation changes nothing that is cached.
        refresh_token = Device.of(await client.refresh(refresh_token)).refresh
    await db.execute("select")
    assert beats == []
    assert (await client.put("/api/user", {"user": {"bio": "new"}}, token=token)).status == 200
    await db.execute("select")
    assert len(beats) == 1


async def test_articles_comments_favorites_and_follows_send_no_heartbeat(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(user_cache_size=100, user_cache_staleness=60)
    listener = client.http.app[CHANGE_LISTENER]
    await wait_until_trusted(listener)
    beats: list[object] = []
    await db.add_listener(listener.own_channel, lambda *beat: beats.append(beat))
    token, _ = await client.register("alice"), await client.register("bob")
    path = "/api/articles/dragons"
    article = {"title": "Dragons", "description": "d", "body": "b", "tagList": ["x"]}
    for method, where, body in (
        ("POST", "/api/articles", {"article": article}),
        ("PUT", path, {"article": {"body": "new", "tagList": []}}),
        ("POST", f"{path}/favorite", None),
        ("DELETE", f"{path}/favorite", None),
        ("POST", f"{path}/comments", {"comment": {"body": "Hi"}}),
        ("POST", "/api/profiles/bob/follow", None),
        ("DELETE", "/api/profiles/bob/follow", None),
        ("DELETE", path, None),
    ):
        response = await client.send(method, where, body, token=token)
        assert response.status in (200, 201, 204), response
    await db.execute("select")
    assert beats == []
    assert (await client.post("/api/auth/logout", token=token)).status == 204
    await db.execute("select")
    assert len(beats) == 1


async def test_heartbeat_commits_without_waiting_for_the_disk(
    db: asyncpg.Connection,
) -> None:
    setting = "select current_setting('synchronous_commit')"
    await db.execute("set synchronous_commit = on")
    async with db.transaction():
        assert await sql.change_listener.send_heartbeat(db, channel="x")
        assert await db.fetchval(setting) == "off"
    assert await db.fetchval(setting) == "on"


async def test_loss_and_recovery_of_the_listen_connection_are_logged_once(
    make_client: MakeClient, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = await make_client(user_cache_size=100)
    listener = client.http.app[CHANGE_LISTENER]
    await wait_until_trusted(listener)
    for _ in range(2):
        await db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1",
            listener.application_name,
        )
        while listener.is_trusted():
            await asyncio.sleep(0)
        await wait_until_trusted(listener)
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("cache ")]
    lost = "cache disabled: lost the LISTEN connection"
    assert [line.partition(": error=")[0] for line in told] == [
        lost,
        "cache enabled: listening again",
    ] * 2


async def test_wait_until_applied_needs_a_heartbeat_that_was_sent_later(
    client: Client, network: Network
) -> None:
    """A heartbeat that is in transit was sent before the change."""
    listener = client.http.app[CHANGE_LISTENER]
    network.hold(LISTENER)
    await network.held.wait()
    asked = clock()
    waiting = asyncio.create_task(listener.wait_until_applied())
    await asyncio.sleep(0)
    network.free()
    await waiting
    assert listener.trusted_until >= asked + 1


async def test_late_heartbeat_clears_the_cache(client: Client, network: Network) -> None:
    """A change does not wait for its invalidation while the cache is disabled."""
    listener, cache = client.http.app[CHANGE_LISTENER], client.http.app[SESSION_CACHE]
    device = await client.open_account("alice")
    assert await client.is_authenticated(device.access)
    network.hold(LISTENER)
    await network.held.wait()
    listener.trusted_until = 0.0
    assert cache.users
    network.free()
    await wait_until_trusted(listener)
    assert not cache.users


@pytest.fixture
async def elsewhere(new_database: Callable[[], str]) -> AsyncIterator[Database]:
    """Return another database than the one that the listener is connected to."""
    database = Database(new_database(), 2)
    await database.open()
    yield database
    await database.close()


async def is_never_trusted(database: Database, url: str, caplog: pytest.LogCaptureFixture) -> bool:
    """Listen at ``url`` and send on ``database``. Return when the connection is given up.

    The listener must never be trusted.
    """
    listener = ChangeListener(database, url, "accounts", 0.3, lambda _: None, lambda: None)
    listener.start()
    async with asyncio.timeout(20):
        while "cache disabled: lost the LISTEN connection" not in caplog.text:
            assert not listener.is_trusted()
            await asyncio.sleep(0.001)
    await listener.stop()
    return True


async def test_listener_is_not_trusted_on_another_database(
    elsewhere: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The heartbeats of the process do not arrive.

    This happens after a failover that left the old server running, or behind a pooler.
    """
    assert await is_never_trusted(elsewhere, database_url, caplog)


async def test_listener_is_not_trusted_on_a_read_only_server(
    elsewhere: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def make_read_only(connection: asyncpg.Connection) -> None:
        name = await connection.fetchval("select current_database()")
        await connection.execute(f"alter database {name} set default_transaction_read_only = on")

    await elsewhere.transact(make_read_only)
    reading = Database(elsewhere._url, 2)
    await reading.open()
    assert await is_never_trusted(reading, elsewhere._url, caplog)
    await reading.close()


async def test_listener_reconnects_when_listen_gets_no_response(
    make_client: MakeClient, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets are dropped after the connection is open and before its LISTEN."""
    monkeypatch.setattr(change_listener_module, "CONNECT_TIMEOUT", 0.5)
    connect, cut_off = asyncpg.connect, asyncio.Event()

    async def connect_and_be_cut_off(*arguments: object, **options: object) -> object:
        connection = await connect(*arguments, **options)
        network.hold(LISTENER)
        monkeypatch.setattr(asyncpg, "connect", connect)
        cut_off.set()
        return connection

    monkeypatch.setattr(asyncpg, "connect", connect_and_be_cut_off)
    client = await make_client(network.url, user_cache_size=100)
    await cut_off.wait()
    await network.held.wait()
    opened = network.connections
    async with asyncio.timeout(20):
        while network.connections == opened:
            await asyncio.sleep(0)
    network.free()
    await wait_until_trusted(client.http.app[CHANGE_LISTENER])


async def test_listener_logs_an_unexpected_error_and_continues(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = client.http.app[CHANGE_LISTENER]
    send_heartbeat = listener._send_heartbeat

    async def fail() -> None:
        monkeypatch.setattr(listener, "_send_heartbeat", send_heartbeat)
        raise ZeroDivisionError

    monkeypatch.setattr(listener, "_send_heartbeat", fail)
    while "cache disabled: listening failed" not in caplog.text:
        await asyncio.sleep(0)
    await wait_until_trusted(listener)
