"""Fixtures: a real PostgreSQL database, migrated once, and clients of the application on it.

All rows are deleted after each test. ``TEST_DATABASE_URL`` names the PostgreSQL server to use, of
version 15 or later. Without it the tests start the embedded server. The tests create their own
databases on the server and drop them at the end.
``TEST_USER_CACHE_SIZE=0`` runs the tests with the session cache disabled, ``TEST_TOKEN_ALGORITHM``
with another ``TOKEN_ALGORITHM``, and ``TEST_PGBOUNCER=1`` through a PgBouncer in transaction mode.
"""

import asyncio
import io
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import jwt
import psycopg
import pytest
from aiohttp import ClientResponse, TCPConnector
from aiohttp.test_utils import TestClient

from service.accounts import cleanup
from service.app import create_app
from service.database.migrate import migrate
from service.database.pool import Database
from service.embedded_postgres.server import EmbeddedServer
from service.http.request_log import RequestLog
from service.settings.settings import Settings
from tests import pgbouncer
from tests.document import assert_documented

SECRET = "tests sign with this, 32 bytes and more"
UNPRIVILEGED_USER = 65534
SETTINGS: dict[str, Any] = {
    "jwt_secret": SECRET,
    "encryption_keys": ("tests encrypt with this, 32 bytes and more",),
    "bcrypt_cost": 4,
    "password_blocklist": "off",
    "token_algorithm": os.environ.get("TEST_TOKEN_ALGORITHM", "HS256"),
    "database_pool_size": 20,
    "user_cache_size": int(os.environ.get("TEST_USER_CACHE_SIZE", "100000")),
}

SIGNS_WITH_HS256 = pytest.mark.skipif(
    SETTINGS["token_algorithm"] != "HS256", reason="the test signs a token with HS256"
)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of the PostgreSQL server of this test run."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    folder = tmp_path_factory.mktemp("embedded")
    server = EmbeddedServer(folder, lambda _: None, durable=False)
    yield server.start()
    server.stop()
    # pytest keeps the folders of the last three runs, and a database has 8 MB.
    shutil.rmtree(folder)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Yield a folder of an unprivileged user. Run the test as that user: root reads any file."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, UNPRIVILEGED_USER, -1)
        os.seteuid(UNPRIVILEGED_USER)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


@pytest.fixture(scope="session")
def new_database(server_url: str) -> Iterator[Callable[[], str]]:
    """Yield a function that creates an empty database and returns its URL."""
    made: list[str] = []

    def create() -> str:
        name = f"test_{os.getpid()}_{len(made)}"
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f"create database {name}")
        made.append(name)
        return url_of(server_url, name)

    yield create
    # The databases of the embedded server are deleted with its folder, which takes less time.
    if "TEST_DATABASE_URL" in os.environ:
        with psycopg.connect(server_url, autocommit=True) as connection:
            for name in made:
                connection.execute(f"drop database {name} with (force)")


def url_of(server_url: str, database: str) -> str:
    """Return the URL of ``database`` on the server of ``server_url``."""
    head, _, query = server_url.partition("?")
    base = head.rpartition("/")[0]
    return f"{base}/{database}" + (f"?{query}" if query else "")


@pytest.fixture(scope="session")
def database_url(new_database: Callable[[], str]) -> str:
    """Create and migrate the database that the tests share, and return its URL."""
    url = new_database()
    migrate(url, lambda _: None)
    return url


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the database of the service. Delete all rows after the test."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await delete_all_rows(connection)
    await connection.close()


# The counts come first, so that no trigger maintains them. Every other table refers to `users`. Not
# every token has a user.
TABLES = (
    "article_counts",
    "user_counts",
    "users",
    "one_time_tokens",
    "events",
    "api_keys",
    "throttle",
    "outbox",
    "tag_counts",
    "article_tags",
    "article_totals",
    "signing_keys",
)
DELETE_ROWS = "; ".join(f"delete from {table}" for table in TABLES)  # noqa: S608
# `cascade` truncates the other tables, which refer to `users`.
TRUNCATE = f"truncate {', '.join(TABLES)} cascade"
LARGEST_TABLE = """
    select max(pg_relation_size(oid)) from pg_class
    where relkind = 'r' and relnamespace = 'public'::regnamespace
"""
MAX_TABLE_SIZE = 65_536
"""In bytes. Larger tables are truncated, which also removes the deleted rows of earlier tests."""


async def delete_all_rows(connection: asyncpg.Connection) -> None:
    """Delete all rows of the service.

    `truncate` creates new files for some 70 tables and indexes. It takes 40 ms, and `delete` of a
    few rows takes 2 ms.
    """
    is_small = await connection.fetchval(LARGEST_TABLE) <= MAX_TABLE_SIZE
    await connection.execute(DELETE_ROWS if is_small else TRUNCATE)


COUNT_BLOCKED = """
    select count(*) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'
"""
COUNT_SLEEPING = """
    select count(*) from pg_stat_activity
    where datname = current_database() and wait_event = 'PgSleep'
"""


async def until_blocked(db: asyncpg.Connection, count: int) -> None:
    """Wait until ``count`` connections to the test database are blocked by a lock."""
    async with asyncio.timeout(20):
        while await db.fetchval(COUNT_BLOCKED) < count:
            # Otherwise a transaction sees the statistics of its first query again.
            await db.execute("select pg_stat_clear_snapshot()")


@dataclass
class Response:
    """A response whose body has been read."""

    status: int
    body: Any
    headers: Any


@dataclass(frozen=True)
class Device:
    """The tokens and the session id of a device that is logged in."""

    access: str
    refresh: str
    session: str

    @classmethod
    def of(cls, response: Response) -> "Device":
        """Return the tokens from the response to a registration, a login or a refresh."""
        assert response.status in (200, 201), response
        access = response.body.get("access_token") or response.body["user"]["token"]
        claims = jwt.decode(access, options={"verify_signature": False})
        return cls(access, response.body["refresh_token"], claims["sid"])


class Client:
    """Send requests with JSON bodies to one instance of the service. Return ``Response`` objects.

    Check each response against the OpenAPI document of the instance, if the test client has access
    to the application.
    """

    def __init__(self, client: TestClient[Any, Any], settings: Settings, log: io.StringIO) -> None:
        self.http = client
        self.settings = settings
        self.log = log

    async def send(
        self, method: str, path: str, json: Any = None, *, token: str | None = None, **options: Any
    ) -> Response:
        headers = dict(options.pop("headers", None) or {})
        if token is not None:
            headers["Authorization"] = f"Token {token}"
        if json is not None:
            options["json"] = json
        async with self.http.request(method, path, headers=headers, **options) as received:
            response = Response(received.status, await read(received), received.headers)
            if isinstance(self.http, TestClient) and self.http.app is not None:
                assert_documented(self.http.app, method, received.url.raw_path, response)
            return response

    async def get(self, path: str, **options: Any) -> Response:
        return await self.send("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> Response:
        return await self.send("POST", path, json, **options)

    async def put(self, path: str, json: Any = None, **options: Any) -> Response:
        return await self.send("PUT", path, json, **options)

    async def patch(self, path: str, json: Any = None, **options: Any) -> Response:
        return await self.send("PATCH", path, json, **options)

    async def delete(self, path: str, json: Any = None, **options: Any) -> Response:
        return await self.send("DELETE", path, json, **options)

    async def register(self, name: str, **changes: Any) -> str:
        """Register the user ``name`` and return their access token."""
        return (await self.open_account(name, **changes)).access

    async def open_account(self, name: str, **changes: Any) -> "Device":
        """Register the user ``name`` and return the device that is logged in."""
        user = {"username": name, "email": f"{name}@example.test", "password": f"{name}-secret"}
        return Device.of(await self.post("/api/users", {"user": {**user, **changes}}))

    async def sign_in(self, name: str, password: str | None = None, **options: Any) -> "Device":
        """Log in the user ``name`` on another device and return that device."""
        user = {"email": f"{name}@example.test", "password": password or f"{name}-secret"}
        return Device.of(await self.post("/api/users/login", {"user": user}, **options))

    async def is_authenticated(self, access: str) -> bool:
        """Return whether the service accepts the access token."""
        return (await self.get("/api/user", token=access)).status == 200

    async def refresh(self, token: str) -> Response:
        """Exchange a refresh token for new tokens, and return the response."""
        return await self.post("/api/auth/refresh", {"refresh_token": token})


async def read(response: ClientResponse) -> Any:
    """Return the body: JSON parsed, text decoded, ``None`` if it is empty, and otherwise bytes."""
    if response.content_type == "application/json":
        return await response.json()
    if response.content_type.startswith("text/"):
        return await response.text() or None
    return await response.read() or None


MakeClient = Callable[..., Awaitable[Client]]


@pytest.fixture(scope="session", autouse=True)
def no_cleanup_by_chance() -> Iterator[None]:
    """Delay the periodic clean-up until after the tests.

    Its first run starts at a random moment within the interval. In a test run of some minutes, one
    of the many services would clean up in the middle of a test.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleanup, "INTERVAL", 1e6)
        yield


@pytest.fixture(scope="session", autouse=True)
def through_pgbouncer() -> Iterator[None]:
    """With ``TEST_PGBOUNCER``, open every pool of the tests through a PgBouncer."""
    if not pgbouncer.IS_USED:
        yield
        return
    direct = Database.__init__

    def through(self: Database, url: str, *arguments: Any, **options: Any) -> None:
        url = pgbouncer.POOLERS.url(url)
        options.update(pooled=True, prepared_statements=pgbouncer.supports_prepared_statements())
        direct(self, url, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "__init__", through)
        yield
    pgbouncer.POOLERS.close()


@pytest.fixture
def make_client(
    db: asyncpg.Connection, database_url: str, aiohttp_client: Any, tmp_path: Path
) -> MakeClient:
    """Return a function that starts the service with changed settings and returns a client.

    ``db`` comes first in the parameters, so its rows are deleted after the service has stopped and
    can no longer write.
    """

    async def make(url: str = database_url, **changes: Any) -> Client:
        settings = Settings(**{**SETTINGS, "data_dir": tmp_path, **changes})
        log = io.StringIO()
        app = create_app(settings, url, RequestLog(log))
        # Disable the connection limit of the client: all requests of a test must run concurrently.
        connector = TCPConnector(limit=0)
        return Client(await aiohttp_client(app, connector=connector), settings, log)

    return make


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    """Return a client of the service in the default dialect."""
    return await make_client()


@dataclass(frozen=True)
class Dialect:
    """The three values in which the two dialects differ."""

    strict: bool
    invalid: int
    registered: int
    no_bio: str | None


DIALECTS = {
    "default": Dialect(strict=False, invalid=400, registered=200, no_bio=""),
    "strict": Dialect(strict=True, invalid=422, registered=201, no_bio=None),
}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Return each dialect in turn."""
    return DIALECTS[request.param]


@pytest.fixture
async def dialect_client(make_client: MakeClient, dialect: Dialect) -> Client:
    """Return a client of the service in the dialect of the test."""
    return await make_client(realworld_strict=dialect.strict)


@pytest.fixture
async def alice(client: Client) -> str:
    """Register Alice, the owner of the objects in the test, and return the token."""
    return await client.register("alice")


@pytest.fixture
async def bob(client: Client) -> str:
    """Register Bob, a user without rights on the objects of Alice, and return the token."""
    return await client.register("bob")
