"""PostgreSQL stops, restarts, dies, refuses: what clients of the service see of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import asyncpg
import psycopg
import pytest

from service.database import pool
from service.mail.outbox import OUTBOX
from tests.answers import assert_error
from tests.conftest import Client, MakeClient
from tests.network import Network
from tests.postgres import OwnPostgres

EMAIL = "jake@example.test"
DISCONNECTED = {"status": "error", "database": "disconnected"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    """A server to stop and start."""
    with OwnPostgres(tmp_path_factory.mktemp("outage") / "data") as own:
        yield own


@pytest.fixture
def postgres(server: OwnPostgres) -> OwnPostgres:
    """The server, running, without rows."""
    server.start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("truncate users cascade")
    return server


@pytest.fixture
async def client(make_client: MakeClient, postgres: OwnPostgres) -> Client:
    """A client of the service over that server."""
    return await make_client(postgres.url)


@pytest.fixture
def short_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests give up sooner, where a test is about what they say then."""
    monkeypatch.setattr(pool, "RETRY_WINDOW", 0.3)


@pytest.fixture
def long_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests wait longer, as long as a restart may take on a busy machine."""
    monkeypatch.setattr(pool, "RETRY_WINDOW", 30.0)


@asynccontextmanager
async def load(client: Client, token: str, clients: int = 20) -> AsyncIterator[Counter[int]]:
    """Clients that ask for their user again and again; inside, the answers counted by status."""
    statuses: Counter[int] = Counter()
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            answer = await client.get("/api/user", token=token)
            statuses[answer.status] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(ask())
        try:
            yield statuses
        finally:
            over.set()


async def more(statuses: Counter[int], status: int = 200, count: int = 100) -> None:
    """Return after ``count`` more answers of ``status``."""
    goal = statuses[status] + count
    async with asyncio.timeout(30):
        while statuses[status] < goal:
            await asyncio.sleep(0.01)


async def recovered(client: Client) -> None:
    """Return when /health is well."""
    async with asyncio.timeout(30):
        while (await client.get("/health")).status != 200:
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("short_gap")
async def test_while_the_database_is_away_requests_are_refused(
    client: Client, postgres: OwnPostgres
) -> None:
    token = await client.register("jake")
    await asyncio.to_thread(postgres.stop)
    user = {"username": "anne", "email": EMAIL, "password": "long enough"}
    requests: list[Callable[[], Awaitable[object]]] = [
        lambda: client.get("/api/user", token=token),
        lambda: client.put("/api/user", {"user": {"bio": "x"}}, token=token),
        lambda: client.post("/api/users", {"user": user}),
        lambda: client.post("/api/users/login", {"user": {"email": EMAIL, "password": "x"}}),
    ]
    for answer in await asyncio.gather(*(request() for request in requests)):
        assert_error(answer, 503, "database_unavailable", {"database": ["is not available"]})
        assert int(answer.headers["Retry-After"]) > 0
    health = await client.get("/health")
    assert (health.status, health.body) == (503, DISCONNECTED)
    assert (await client.get("/api/user")).status == 401, "what needs no database goes on"


@pytest.mark.usefixtures("short_gap")
async def test_in_a_long_outage_nobody_waits(client: Client, postgres: OwnPostgres) -> None:
    token = await client.register("jake")
    await asyncio.to_thread(postgres.stop)
    assert (await client.get("/api/user", token=token)).status == 503
    async with asyncio.timeout(5):  # Had each waited for the gap, it would be 6 s at least.
        for _ in range(20):
            assert (await client.get("/api/user", token=token)).status == 503


async def test_the_service_recovers_by_itself(client: Client, postgres: OwnPostgres) -> None:
    token = await client.register("jake")
    await asyncio.to_thread(postgres.stop)
    assert (await client.get("/health")).status == 503
    await asyncio.to_thread(postgres.start)
    assert (await client.get("/health")).body == {"status": "ok", "database": "connected"}
    assert (await client.get("/api/user", token=token)).status == 200
    await client.register("anne")


@pytest.mark.usefixtures("long_gap")
@pytest.mark.parametrize("end", [OwnPostgres.stop, OwnPostgres.kill], ids=["stopped", "killed"])
async def test_a_read_that_meets_a_restart_is_answered(
    client: Client, postgres: OwnPostgres, end: Callable[[OwnPostgres], None]
) -> None:
    token = await client.register("jake")
    await asyncio.to_thread(end, postgres)
    reads = [asyncio.create_task(client.get("/api/user", token=token)) for _ in range(30)]
    await asyncio.sleep(0)
    await asyncio.to_thread(postgres.start)
    assert Counter(answer.status for answer in await asyncio.gather(*reads)) == {200: 30}


async def test_a_write_that_may_have_happened_is_not_repeated(
    client: Client, postgres: OwnPostgres
) -> None:
    token = await client.register("jake")
    async with admin(postgres) as connection:
        await connection.execute("create table writes (username text)")
        await connection.execute(
            "create function note() returns trigger language plpgsql as $$ begin"
            "  insert into writes values (new.username);"
            "  perform pg_sleep(60) from users where username = 'jake' and new.bio = 'slow';"
            "  return new; end $$"
        )
        await connection.execute(
            "create trigger note after update on users for each row execute function note()"
        )
        try:
            slow = {"user": {"bio": "slow"}}
            write = asyncio.create_task(client.put("/api/user", slow, token=token))
            await until(
                connection, "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
            )
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where wait_event = 'PgSleep'"
            )
            assert_error(
                await write, 503, "database_unavailable", {"database": ["is not available"]}
            )
            assert await connection.fetchval("select count(*) from writes") == 0
            user = (await client.get("/api/user", token=token)).body["user"]
            assert user["bio"] == ""
        finally:
            await connection.execute("drop trigger note on users")
            await connection.execute("drop function note; drop table writes")


@asynccontextmanager
async def admin(postgres: OwnPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside the service's."""
    connection = await asyncpg.connect(postgres.url)
    try:
        yield connection
    finally:
        await connection.close()


async def until(connection: asyncpg.Connection, count: str) -> None:
    """Return when ``count`` is not zero."""
    async with asyncio.timeout(30):
        while not await connection.fetchval(count):
            await asyncio.sleep(0.01)


OTHERS = "from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"


async def test_terminated_connections_are_no_error_for_readers(
    client: Client, postgres: OwnPostgres
) -> None:
    token = await client.register("jake")
    async with admin(postgres) as connection, load(client, token) as statuses:
        for _ in range(5):
            await more(statuses)
            ended = await connection.fetch(f"select pg_terminate_backend(pid) {OTHERS}")
            assert len(ended) > 5
        await more(statuses)
    assert set(statuses) == {200}


async def test_a_load_that_runs_through_a_crash_sees_nothing_but_503(
    client: Client, postgres: OwnPostgres
) -> None:
    token = await client.register("jake")
    async with load(client, token) as statuses:
        await more(statuses)
        await asyncio.to_thread(postgres.kill)
        await asyncio.to_thread(postgres.start)
        await recovered(client)
        await more(statuses)
    assert set(statuses) <= {200, 503}


async def test_one_connection_serves_many(make_client: MakeClient, postgres: OwnPostgres) -> None:
    client = await make_client(postgres.url, database_pool_size=1)
    token = await client.register("jake")
    answers = await asyncio.gather(*(client.get("/api/user", token=token) for _ in range(100)))
    assert Counter(answer.status for answer in answers) == {200: 100}


@pytest.mark.usefixtures("short_gap")
async def test_a_server_without_free_connections_is_503(
    make_client: MakeClient, postgres: OwnPostgres
) -> None:
    async with admin(postgres) as connection:
        await connection.execute("create role modest login connection limit 0")
        await connection.execute("grant all on users to modest")
        try:
            client = await make_client(postgres.url.replace("//conduit@", "//modest@"))
            answer = await client.get("/api/user", token=await other_token(make_client, postgres))
            assert_error(answer, 503, "database_unavailable", {"database": ["is not available"]})
            await connection.execute("alter role modest connection limit 5")
            await recovered(client)
        finally:
            await connection.execute("drop owned by modest")


async def other_token(make_client: MakeClient, postgres: OwnPostgres) -> str:
    """The token of an account, made through another process."""
    return await (await make_client(postgres.url)).register("jake")


@pytest.mark.usefixtures("short_gap")
async def test_a_changed_password_or_a_dropped_role_is_503_not_500(
    make_client: MakeClient, postgres: OwnPostgres
) -> None:
    token = await other_token(make_client, postgres)
    client = await make_client(postgres.url.replace("//conduit@", "//unknown@"))
    assert (await client.get("/health")).body == DISCONNECTED
    assert (await client.get("/api/user", token=token)).status == 503


async def test_a_server_that_only_reads_refuses_changes_until_it_is_the_leader_again(
    client: Client, postgres: OwnPostgres
) -> None:
    token = await client.register("jake")
    async with admin(postgres) as connection:
        await connection.execute("alter database conduit set default_transaction_read_only = on")
        await connection.execute(f"select pg_terminate_backend(pid) {OTHERS}")
        bio = {"user": {"bio": "x"}}
        assert (await client.put("/api/user", bio, token=token)).status == 503
        assert (await client.get("/api/user", token=token)).status == 200
        await connection.execute("set default_transaction_read_only = off")
        await connection.execute("alter database conduit reset default_transaction_read_only")
        for _ in range(25):  # More than there are connections that remember.
            assert (await client.get("/health")).status == 200
        await asyncio.gather(*(client.put("/api/user", bio, token=token) for _ in range(40)))
        assert (await client.put("/api/user", bio, token=token)).status == 200


async def test_in_a_long_silence_one_request_looks_and_the_others_are_refused_at_once(
    make_client: MakeClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropped packets, as by a firewall: whoever asks waits, so that not everybody should."""
    monkeypatch.setattr(pool, "COMMAND_TIMEOUT", 0.3)
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(pool, "RETRY_WINDOW", 0.2)
    async with Network(database_url) as network:
        client = await make_client(network.url, user_cache_size=0)
        await client.http.app[OUTBOX].stop()  # It looks too.
        token = await client.register("jake")
        network.hold()
        while (await client.get("/api/user", token=token)).status != 503:
            pass
        monkeypatch.setattr(pool, "PROBE_INTERVAL", 3600.0)
        assert (await client.get("/api/user", token=token)).status == 503
        before = network.connections
        requests = (client.get("/api/user", token=token) for _ in range(50))
        assert {answer.status for answer in await asyncio.gather(*requests)} == {503}
        assert network.connections - before <= 1
