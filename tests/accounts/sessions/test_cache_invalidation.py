"""When a process believes what it heard, and who waits for that."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

import sql
from service.accounts.sessions.authentication import SESSION_CACHE
from service.database import change_listener as notifications_module
from service.database.change_listener import CHANGE_LISTENER, ChangeListener, clock
from service.database.pool import Database
from tests.conftest import Client, Device, MakeClient
from tests.network import Network

LISTENER = b"listener_"


async def trusted(notifications: ChangeListener) -> None:
    """Return once it listens and may be believed."""
    async with asyncio.timeout(20):
        while not notifications.is_trusted():
            await asyncio.sleep(0)


@pytest.fixture
async def client(make_client: MakeClient, network: Network) -> Client:
    """A client of the service, whose notifications travel through the network."""
    client = await make_client(network.url, user_cache_size=100, user_cache_staleness=1)
    await trusted(client.http.app[CHANGE_LISTENER])
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
    notifications = client.http.app[CHANGE_LISTENER]
    first = await client.open_account("alice")
    second = Device.of(await client.refresh(first.refresh))
    newest = Device.of(await client.refresh(second.refresh))
    assert await client.is_authenticated(newest.access)
    network.hold(LISTENER)
    ending = asyncio.create_task(end(client, first))
    while notifications.is_trusted():
        assert not ending.done()
        await asyncio.sleep(0)
    assert await asyncio.wait_for(ending, 20) == status
    assert not await client.is_authenticated(newest.access)
    network.free()
    await trusted(notifications)


async def test_belief_counts_from_the_sending_of_a_heartbeat(
    client: Client, network: Network
) -> None:
    """What was committed while the heartbeat was under way need not have come before it."""
    notifications = client.http.app[CHANGE_LISTENER]
    network.hold(LISTENER)
    await network.held.wait()
    before, freed = notifications.trusted_until, clock()
    network.free()
    while notifications.trusted_until == before:
        await asyncio.sleep(0)
    assert notifications.trusted_until < freed + 1


async def test_who_changes_nothing_causes_no_heartbeat(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(user_cache_size=100, user_cache_staleness=60)
    notifications = client.http.app[CHANGE_LISTENER]
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


async def test_articles_comments_favorites_and_follows_send_no_heartbeat(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(user_cache_size=100, user_cache_staleness=60)
    notifications = client.http.app[CHANGE_LISTENER]
    await trusted(notifications)
    beats: list[object] = []
    await db.add_listener(notifications.own_channel, lambda *beat: beats.append(beat))
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
        answer = await client.send(method, where, body, token=token)
        assert answer.status in (200, 201, 204), answer
    await db.execute("select")
    assert beats == []
    assert (await client.post("/api/auth/logout", token=token)).status == 204
    await db.execute("select")
    assert len(beats) == 1


async def test_the_commit_of_a_heartbeat_does_not_wait_for_the_disk(
    db: asyncpg.Connection,
) -> None:
    setting = "select current_setting('synchronous_commit')"
    await db.execute("set synchronous_commit = on")
    async with db.transaction():
        assert await sql.change_listener.send_heartbeat(db, channel="x")
        assert await db.fetchval(setting) == "off"
    assert await db.fetchval(setting) == "on"


async def test_each_loss_and_each_recovery_is_logged_once(
    make_client: MakeClient, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = await make_client(user_cache_size=100)
    notifications = client.http.app[CHANGE_LISTENER]
    await trusted(notifications)
    for _ in range(2):
        await db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1",
            notifications.application_name,
        )
        while notifications.is_trusted():
            await asyncio.sleep(0)
        await trusted(notifications)
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("cache ")]
    lost = "cache disabled: lost the LISTEN connection"
    assert [line.partition(": error=")[0] for line in told] == [
        lost,
        "cache enabled: listening again",
    ] * 2


async def test_who_waits_is_not_content_with_a_heartbeat_already_under_way(
    client: Client, network: Network
) -> None:
    """It was sent before the change that is waited for."""
    notifications = client.http.app[CHANGE_LISTENER]
    network.hold(LISTENER)
    await network.held.wait()
    asked = clock()
    waiting = asyncio.create_task(notifications.wait_until_applied())
    await asyncio.sleep(0)
    network.free()
    await waiting
    assert notifications.trusted_until >= asked + 1


async def test_a_late_heartbeat_brings_no_old_memory_back(client: Client, network: Network) -> None:
    """Who changes something while nothing is believed does not wait for the news of it."""
    notifications, memory = client.http.app[CHANGE_LISTENER], client.http.app[SESSION_CACHE]
    device = await client.open_account("alice")
    assert await client.is_authenticated(device.access)
    network.hold(LISTENER)
    await network.held.wait()
    notifications.trusted_until = 0.0
    assert memory.users
    network.free()
    await trusted(notifications)
    assert not memory.users


@pytest.fixture
async def elsewhere(new_database: Callable[[], str]) -> AsyncIterator[Database]:
    """Another database than the one that is listened to."""
    database = Database(new_database(), 2)
    await database.open()
    yield database
    await database.close()


async def not_heard(database: Database, url: str, caplog: pytest.LogCaptureFixture) -> bool:
    """Listen at ``url`` for what ``database`` tells; whether that was given up, never believed."""
    notifications = ChangeListener(database, url, "accounts", 0.3, lambda _: None, lambda: None)
    notifications.start()
    async with asyncio.timeout(20):
        while "cache disabled: lost the LISTEN connection" not in caplog.text:
            assert not notifications.is_trusted()
            await asyncio.sleep(0)
    await notifications.stop()
    return True


async def test_who_listens_where_nothing_is_changed_is_not_believed(
    elsewhere: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After a failover that left the old server running, or behind a pooler: a connection that only
    hears itself."""
    assert await not_heard(elsewhere, database_url, caplog)


async def test_a_server_that_only_reads_is_not_believed(
    elsewhere: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def only_read(connection: asyncpg.Connection) -> None:
        name = await connection.fetchval("select current_database()")
        await connection.execute(f"alter database {name} set default_transaction_read_only = on")

    await elsewhere.transact(only_read)
    reading = Database(elsewhere._url, 2)
    await reading.open()
    assert await not_heard(reading, elsewhere._url, caplog)
    await reading.close()


async def test_a_silence_at_the_first_word_is_given_up(
    make_client: MakeClient, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets dropped between the connection and its LISTEN."""
    monkeypatch.setattr(notifications_module, "CONNECT_TIMEOUT", 0.5)
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
    await trusted(client.http.app[CHANGE_LISTENER])


async def test_a_fault_while_listening_is_logged_and_listening_goes_on(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifications = client.http.app[CHANGE_LISTENER]
    send_heartbeat = notifications._send_heartbeat

    async def fail() -> None:
        monkeypatch.setattr(notifications, "_send_heartbeat", send_heartbeat)
        raise ZeroDivisionError

    monkeypatch.setattr(notifications, "_send_heartbeat", fail)
    while "cache disabled: listening failed" not in caplog.text:
        await asyncio.sleep(0)
    await trusted(notifications)
