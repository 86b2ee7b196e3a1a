"""Test what clients see when PostgreSQL stops, restarts, crashes or rejects connections."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import asyncpg
import psycopg
import pytest

from service.database import circuit_breaker, pool
from service.mail.outbox import OUTBOX
from tests import pgbouncer
from tests.conftest import Client, MakeClient, Response
from tests.network import Network
from tests.pgbouncer import without_pgbouncer
from tests.postgres import OwnPostgres
from tests.responses import assert_error

EMAIL = "jake@example.test"
DISCONNECTED = {"status": "error", "database": "disconnected"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    """Start a PostgreSQL server that the tests of this module stop and start."""
    with OwnPostgres(tmp_path_factory.mktemp("outage") / "data") as own:
        yield own


@pytest.fixture
def postgres(server: OwnPostgres) -> OwnPostgres:
    """Return the running server, without rows."""
    server.start()
    if pgbouncer.IS_USED:
        pgbouncer.POOLERS.wait_for(server.url)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("truncate users cascade")
    return server


@pytest.fixture
async def client(make_client: MakeClient, postgres: OwnPostgres) -> Client:
    """Return a client of the service on that server."""
    return await make_client(postgres.url)


@pytest.fixture
def short_retry_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests give up soon, for tests of the response that they get then."""
    monkeypatch.setattr(circuit_breaker, "RETRY_WINDOW", 0.3)


@pytest.fixture
def long_retry_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests retry for as long as a restart can take on a busy machine."""
    monkeypatch.setattr(circuit_breaker, "RETRY_WINDOW", 30.0)


@asynccontextmanager
async def load(client: Client, token: str, clients: int = 20) -> AsyncIterator[Counter[int]]:
    """Let clients request their user repeatedly. Yield the number of responses by status."""
    statuses: Counter[int] = Counter()
    is_over = asyncio.Event()

    async def request_repeatedly() -> None:
        while not is_over.is_set():
            response = await client.get("/api/user", token=token)
            statuses[response.status] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(request_repeatedly())
        try:
            yield statuses
        finally:
            is_over.set()


async def until_more(statuses: Counter[int], status: int = 200, count: int = 100) -> None:
    """Wait for ``count`` more responses with ``status``."""
    goal = statuses[status] + count
    async with asyncio.timeout(30):
        while statuses[status] < goal:
            await asyncio.sleep(0.01)


async def until_healthy(client: Client) -> None:
    """Wait until /health responds with 200."""
    async with asyncio.timeout(30):
        while (await client.get("/health")).status != 200:
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("short_retry_window")
async def test_requests_get_503_while_the_database_is_down(
    client: Client, postgres: OwnPostgres
) -> None:
    token = await client.register("jake")
    await asyncio.to_thread(postgres.stop)
    user = {"username": "anne", "email": EMAIL, "password": "long enough"}
    requests: list[Callable[[], Awaitable[Response]]] = [
        lambda: client.get("/api/user", token=token),
        lambda: client.put("/api/user", {"user": {"bio": "x"}}, token=token),
        lambda: client.post("/api/users", {"user": user}),
        lambda: client.post("/api/users/login", {"user": {"email": EMAIL, "password": "x"}}),
    ]
    for response in await asyncio.gather(*(request() for request in requests)):
        assert_error(response, 503, "database_unavailable", {"database": ["is not available"]})
        assert int(response.headers["Retry-After"]) > 0
    health = await client.get("/health")
    assert (health.status, health.body) == (503, DISCONNECTED)
    assert (await client.get("/api/user")).status == 401, "this needs no database"


@pytest.mark.usefixtures("short_retry_window")
async def test_requests_fail_at_once_in_a_long_outage(
    client: Client, postgres: OwnPostgres
) -> None:
    token = await client.register("jake")
    await asyncio.to_thread(postgres.stop)
    assert (await client.get("/api/user", token=token)).status == 503
    async with asyncio.timeout(5):  # If each retried for 0.3 s, it would take at least 6 s.
        for _ in range(20):
            assert (await client.get("/api/user", token=token)).status == 503


@without_pgbouncer  # It tries to connect to PostgreSQL only once a second.
async def test_service_recovers_when_the_database_is_back(
    client: Client, postgres: OwnPostgres
) -> None:
    token = await client.register("jake")
    await asyncio.to_thread(postgres.stop)
    assert (await client.get("/health")).status == 503
    await asyncio.to_thread(postgres.start)
    assert (await client.get("/health")).body == {"status": "ok", "database": "connected"}
    assert (await client.get("/api/user", token=token)).status == 200
    await client.register("anne")


@pytest.mark.usefixtures("long_retry_window")
@pytest.mark.parametrize("end", [OwnPostgres.stop, OwnPostgres.kill], ids=["stopped", "killed"])
async def test_reads_succeed_after_a_restart_of_the_database(
    client: Client, postgres: OwnPostgres, end: Callable[[OwnPostgres], None]
) -> None:
    token = await client.register("jake")
    await asyncio.to_thread(end, postgres)
    reads = [asyncio.create_task(client.get("/api/user", token=token)) for _ in range(30)]
    await asyncio.sleep(0)
    await asyncio.to_thread(postgres.start)
    assert Counter(response.status for response in await asyncio.gather(*reads)) == {200: 30}


async def test_write_is_not_repeated_when_it_may_have_been_committed(
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
            await until_not_zero(
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
    """Open a connection that does not belong to the service."""
    connection = await asyncpg.connect(postgres.url)
    try:
        yield connection
    finally:
        await connection.close()


async def until_not_zero(connection: asyncpg.Connection, count: str) -> None:
    """Wait until the query ``count`` does not return 0."""
    async with asyncio.timeout(30):
        while not await connection.fetchval(count):
            await asyncio.sleep(0.01)


OTHERS = "from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"


async def test_reads_succeed_when_connections_are_terminated(
    client: Client, postgres: OwnPostgres
) -> None:
    token = await client.register("jake")
    async with admin(postgres) as connection, load(client, token) as statuses:
        for _ in range(5):
            await until_more(statuses)
            ended = await connection.fetch(f"select pg_terminate_backend(pid) {OTHERS}")
            assert len(ended) > 1  # The listening connection and those of the requests.
        await until_more(statuses)
    assert set(statuses) == {200}


async def test_requests_during_a_crash_get_no_status_but_200_and_503(
    client: Client, postgres: OwnPostgres
) -> None:
    token = await client.register("jake")
    async with load(client, token) as statuses:
        await until_more(statuses)
        await asyncio.to_thread(postgres.kill)
        await asyncio.to_thread(postgres.start)
        await until_healthy(client)
        await until_more(statuses)
    assert set(statuses) <= {200, 503}


async def test_one_connection_serves_100_simultaneous_requests(
    make_client: MakeClient, postgres: OwnPostgres
) -> None:
    client = await make_client(postgres.url, database_pool_size=1)
    token = await client.register("jake")
    responses = await asyncio.gather(*(client.get("/api/user", token=token) for _ in range(100)))
    assert Counter(response.status for response in responses) == {200: 100}


@without_pgbouncer
@pytest.mark.usefixtures("short_retry_window")
async def test_requests_get_503_when_the_server_has_no_free_connection(
    make_client: MakeClient, postgres: OwnPostgres
) -> None:
    async with admin(postgres) as connection:
        await connection.execute("create role modest login connection limit 0")
        await connection.execute("grant all on users to modest")
        try:
            token = await token_from_another_instance(make_client, postgres)
            client = await make_client(postgres.url.replace("//conduit@", "//modest@"))
            response = await client.get("/api/user", token=token)
            assert_error(response, 503, "database_unavailable", {"database": ["is not available"]})
            await connection.execute("alter role modest connection limit 5")
            await until_healthy(client)
        finally:
            await connection.execute("drop owned by modest")


async def token_from_another_instance(make_client: MakeClient, postgres: OwnPostgres) -> str:
    """Register an account with another instance of the service, and return its token."""
    return await (await make_client(postgres.url)).register("jake")


@without_pgbouncer
@pytest.mark.usefixtures("short_retry_window")
async def test_requests_get_503_when_the_server_rejects_the_role(
    make_client: MakeClient, postgres: OwnPostgres
) -> None:
    token = await token_from_another_instance(make_client, postgres)
    client = await make_client(postgres.url.replace("//conduit@", "//unknown@"))
    assert (await client.get("/health")).body == DISCONNECTED
    assert (await client.get("/api/user", token=token)).status == 503


@without_pgbouncer  # It keeps connections that were opened while the server was read-only.
async def test_writes_get_503_until_the_server_accepts_writes_again(
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
        for _ in range(25):  # More than there are open connections.
            assert (await client.get("/health")).status == 200
        await asyncio.gather(*(client.put("/api/user", bio, token=token) for _ in range(40)))
        assert (await client.put("/api/user", bio, token=token)).status == 200


async def test_one_request_probes_and_the_others_fail_at_once_when_the_network_drops_packets(
    make_client: MakeClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall that drops packets lets a connection attempt wait until its timeout."""
    monkeypatch.setattr(pool, "COMMAND_TIMEOUT", 0.3)
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(circuit_breaker, "RETRY_WINDOW", 0.2)
    async with Network(database_url) as network:
        client = await make_client(network.url, user_cache_size=0)
        await client.http.app[OUTBOX].stop()  # It would probe, too.
        token = await client.register("jake")
        network.hold()
        while (await client.get("/api/user", token=token)).status != 503:
            pass
        monkeypatch.setattr(circuit_breaker, "PROBE_INTERVAL", 3600.0)
        assert (await client.get("/api/user", token=token)).status == 503
        before = network.connections
        requests = (client.get("/api/user", token=token) for _ in range(50))
        assert {response.status for response in await asyncio.gather(*requests)} == {503}
        assert network.connections - before <= 1
