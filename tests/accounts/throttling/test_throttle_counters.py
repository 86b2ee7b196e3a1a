"""The counters behind the limits: given back, off, removed; and limits on other requests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiohttp import web

import sql
from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.throttling import login_attempts
from service.accounts.throttling.login_attempts import Attempt, LoginAttempts, LoginKeys
from service.accounts.throttling.throttle import THROTTLE, Throttle
from service.app import create_app
from service.database.pool import Database
from service.http.client import Client as HttpClient
from service.http.client import client_of
from service.http.error_codes import ErrorCode
from service.http.errors import TooManyAttempts, Unavailable
from service.http.routes import Auth, RouteTableDef
from service.settings.rate_limit import NO_LIMIT, Limit
from service.settings.settings import Settings, SettingsError
from tests.accounts.logins import HERE, login, statuses
from tests.conftest import SETTINGS, Client, MakeClient, until_blocked

ALICE, BOB = uuid4(), uuid4()
CLIENT = HttpClient.at(HERE)


@pytest.fixture
async def database(db: asyncpg.Connection, database_url: str) -> AsyncIterator[Database]:
    """Open a pool of the database, without the rest of the service."""
    database = Database(database_url, 5)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def attempts(database: Database) -> LoginAttempts:
    """Return the login attempts under the default limits."""
    return LoginAttempts(database, Settings())


async def counters(db: asyncpg.Connection) -> list[tuple[int, int]]:
    rows = await db.fetch("select hits, in_flight from throttle order by hits, in_flight")
    return [tuple(row) for row in rows]


async def fail(attempts: LoginAttempts, account_id: UUID, address: str) -> bool:
    """One wrong password; whether it met a limit of the account."""
    async with attempts.admit(account_id, HttpClient.at(address)) as attempt:
        return await count(attempt)


async def count(attempt: Attempt) -> bool:
    """Count a failure; whether it met a limit of the account."""
    met = []

    async def write_events(_: sql.Connection, is_locked_out: bool) -> None:
        met.append(is_locked_out)

    await attempt.record_failure(write_events)
    return met[-1]


async def test_a_login_whose_hash_never_ran_is_no_failure(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_: Any) -> bool:
        raise Unavailable("server", "is too busy", code=ErrorCode.PASSWORDS_BUSY, retry_after=5)

    monkeypatch.setattr(client.http.app[PASSWORDS], "verify", busy)
    assert await statuses(*(login(client, "alice") for _ in range(50))) == {503: 50}
    assert await counters(db) == []


async def test_a_login_whose_client_has_gone_is_no_failure(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    hashing = asyncio.Event()

    async def attempt() -> None:
        async with attempts.admit(ALICE, CLIENT):
            hashing.set()
            await asyncio.Future()

    task = asyncio.create_task(attempt())
    await hashing.wait()
    assert await counters(db) == [(0, 1)] * 3
    task.cancel()
    await asyncio.wait([task])
    assert await counters(db) == []


async def test_what_is_given_back_leaves_what_others_have_there(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    await fail(attempts, ALICE, HERE)
    async with attempts.admit(ALICE, CLIENT):
        async with attempts.admit(ALICE, CLIENT):
            assert await counters(db) == [(1, 2)] * 3
        assert await counters(db) == [(1, 1)] * 3
    assert await counters(db) == [(1, 0)] * 3


async def test_an_attempt_of_a_former_window_is_not_settled_in_the_present_one(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    async with attempts.admit(ALICE, CLIENT) as old:
        await db.execute("update throttle set ends_at = now()")
        async with attempts.admit(ALICE, CLIENT) as new:
            assert await count(old) is False
            assert await counters(db) == [(0, 1)] * 3
            await count(new)
    assert await counters(db) == [(1, 0)] * 3


async def test_an_attempt_whose_lease_is_over_gives_back_nothing_of_anothers(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    """Its place lapsed while it waited for a hash, and has been taken since."""
    async with contextlib.AsyncExitStack() as stack:
        async with attempts.admit(ALICE, CLIENT) as late:
            await db.execute("update throttle set in_flight_until = now()")
            late.verify_deadline = 0.0
            other = await stack.enter_async_context(attempts.admit(ALICE, CLIENT))
        assert await counters(db) == [(0, 1)] * 3
        await count(other)
    assert await counters(db) == [(1, 0)] * 3


async def test_what_is_given_back_leaves_what_came_while_it_waited(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    leave = asyncio.Event()

    async def attempt() -> None:
        async with attempts.admit(ALICE, CLIENT):
            await leave.wait()

    task = asyncio.create_task(attempt())
    while await counters(db) != [(0, 1)] * 3:
        await asyncio.sleep(0)
    async with db.transaction():
        await db.execute("update throttle set in_flight = in_flight + 1")
        leave.set()
        await until_blocked(db, 1)
    await task
    assert await counters(db) == [(0, 1)] * 3


async def test_what_others_have_under_way_still_counts_after_a_good_login(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    async with attempts.admit(ALICE, CLIENT) as wrong:
        async with attempts.admit(ALICE, CLIENT) as right:
            await right.record_success()
        await count(wrong)
    assert await counters(db) == [(1, 0)] * 3


async def test_an_outcome_that_never_comes_makes_the_server_busy(
    attempts: LoginAttempts, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fail(attempts, ALICE, HERE)
    # As a process that was killed leaves it.
    await db.execute(
        "update throttle set in_flight = 4, in_flight_until = now() + interval '1 minute'"
    )
    monkeypatch.setattr(login_attempts, "MAX_WAIT", 0.0)
    with pytest.raises(Unavailable):
        await fail(attempts, ALICE, HERE)
    await db.execute("update throttle set in_flight_until = now()")
    await fail(attempts, ALICE, HERE)
    assert await counters(db) == [(2, 0)] * 3


async def test_who_waits_for_another_key_holds_up_nobody(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    """Both begin to wait for the address; then there is room there, but not for the first."""
    async with attempts.admit(ALICE, CLIENT):
        keys = LoginKeys(ALICE, CLIENT, Settings().login_limits)
        fill = "update throttle set in_flight = $1 where key = $2"
        await db.execute(fill, 50, keys.ip)
        first = asyncio.create_task(fail(attempts, ALICE, HERE))
        while not (line := attempts._wait_queues.get(keys.ip)) or not line.locked():
            await asyncio.sleep(0)
        second = asyncio.create_task(fail(attempts, BOB, HERE))
        while not line._waiters:
            await asyncio.sleep(0)
        await db.execute(fill, 5, keys.pair)
        await db.execute(fill, 1, keys.ip)
        await asyncio.wait_for(second, 20)
        assert not first.done()
        await db.execute(fill, 1, keys.pair)
        await asyncio.wait_for(first, 20)


async def test_an_attempt_settled_after_its_time_still_counts_as_a_failure(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    async with attempts.admit(ALICE, CLIENT) as late:
        await db.execute("update throttle set in_flight_until = now()")
        async with attempts.admit(ALICE, CLIENT) as quick:
            await quick.record_success()
        await count(late)
    assert await counters(db) == [(1, 0)] * 3


async def test_meeting_a_limit_of_the_account_is_told_once_in_a_window(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    assert [await fail(attempts, ALICE, HERE) for _ in range(5)] == [False] * 4 + [True]
    with pytest.raises(TooManyAttempts):
        await fail(attempts, ALICE, HERE)
    told = [await fail(attempts, ALICE, f"203.0.113.{i}") for i in range(45)]
    assert told == [False] * 44 + [True]
    await db.execute("update throttle set ends_at = now()")
    assert [await fail(attempts, ALICE, HERE) for _ in range(5)] == [False] * 4 + [True]


async def test_meeting_the_limit_of_an_address_is_not_told_to_the_last_account(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    assert not any([await fail(attempts, uuid4(), HERE) for i in range(50)])
    with pytest.raises(TooManyAttempts):
        await fail(attempts, ALICE, HERE)


async def test_each_limit_can_be_off(make_client: MakeClient, db: asyncpg.Connection) -> None:
    off = await make_client(login_limits=(NO_LIMIT, NO_LIMIT, NO_LIMIT))
    assert await statuses(*(login(off, "alice") for _ in range(60))) == {401: 60}
    assert await counters(db) == []
    address_alone = await make_client(login_limits=(NO_LIMIT, Limit(7, 60), NO_LIMIT))
    assert await statuses(*(login(address_alone, "alice") for _ in range(9))) == {401: 7, 429: 2}
    assert await counters(db) == [(7, 0)]


async def test_an_account_limit_alone_lets_a_known_address_in(make_client: MakeClient) -> None:
    client = await make_client(login_limits=(NO_LIMIT, NO_LIMIT, Limit(3, 60)), trusted_proxies=1)
    await client.register("alice")
    assert (await login(client, "alice", "alice-secret")).status == 200
    guesses = (login(client, "alice", address="203.0.113.1") for _ in range(5))
    assert await statuses(*guesses) == {401: 3, 429: 2}
    assert (await login(client, "alice", "alice-secret")).status == 200


async def test_one_connection_is_enough_since_none_is_held_while_hashing(
    make_client: MakeClient,
) -> None:
    client = await make_client(database_pool_size=1)
    await client.register("alice")
    assert await statuses(*(login(client, "alice") for _ in range(20))) == {401: 5, 429: 15}


async def new_user(db: asyncpg.Connection) -> UUID:
    row = await sql.users.insert(
        db,
        username="alice",
        username_key="alice",
        email="alice@example.test",
        email_key="alice",
        password_hash="",
    )
    return UUID(str(row["id"]))


async def test_what_is_over_is_removed_a_number_at_a_time(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    await fail(attempts, ALICE, HERE)
    await db.execute("update throttle set ends_at = now()")
    await fail(attempts, BOB, "192.0.2.2")
    assert await sql.throttle.delete_expired(db, limit=2) == 2
    assert await sql.throttle.delete_expired(db, limit=2) == 1
    assert await sql.throttle.delete_expired(db, limit=2) == 0
    assert await counters(db) == [(1, 0)] * 3


async def test_addresses_not_seen_lately_are_removed(
    attempts: LoginAttempts, db: asyncpg.Connection
) -> None:
    user_id = await new_user(db)
    await db.execute(
        "insert into known_ips select $1, 'a' || n, now() - n * interval '14 days'"
        " from generate_series(0, 4) as n",
        user_id,
    )
    assert await sql.known_ips.delete_expired(db, known_ttl=2_592_000, limit=1) == 1
    assert await sql.known_ips.delete_expired(db, known_ttl=2_592_000, limit=9) == 1
    assert await db.fetchval("select count(*) from known_ips") == 3


async def test_registrations_past_the_limit_of_an_address_are_refused(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(registration_limit=Limit(3, 60), trusted_proxies=1)

    async def register(number: int, address: str = HERE) -> Any:
        name = f"user{number}"
        user = {"username": name, "email": f"{name}@example.test", "password": "long enough"}
        headers = {"X-Forwarded-For": address}
        return await client.post("/api/users", {"user": user}, headers=headers)

    assert await statuses(*(register(i) for i in range(20))) == {200: 3, 429: 17}
    refused = await register(30)
    assert refused.body == {
        "errors": {"registration": ["too many attempts"]},
        "code": "too_many_attempts",
    }
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert (await register(31, "192.0.2.2")).status == 200
    await db.execute("update throttle set ends_at = now()")
    assert (await register(32)).status == 200


async def test_a_release_takes_back_nothing_of_a_later_window(
    database: Database, db: asyncpg.Connection
) -> None:
    throttle = Throttle(database, Settings())
    old = await throttle.admit_conflict(HttpClient.at("2001:db8::1"))
    await db.execute("update throttle set ends_at = now() where hits = 1")
    new = await throttle.admit_conflict(HttpClient.at("2001:db8::1"))
    await throttle.release_conflict(old)
    assert await counters(db) == [(1, 0)] * 2
    await throttle.release_conflict(new)
    assert await counters(db) == [(0, 0)] * 2


async def test_refreshes_past_the_limit_of_an_address_are_refused(
    aiohttp_client: Any, database_url: str, db: asyncpg.Connection
) -> None:
    routes = RouteTableDef()

    @routes.post("/refresh", auth=Auth.NONE)
    async def refresh(request: web.Request) -> web.Response:
        await request.app[THROTTLE].admit_refresh(client_of(request))
        return web.Response()

    settings = Settings(**SETTINGS, refresh_limit=Limit(3, 60))
    app = create_app(settings, database_url)
    app.add_routes(routes)
    client = Client(await aiohttp_client(app), settings, None)  # type: ignore[arg-type]
    assert await statuses(*(client.post("/refresh") for _ in range(20))) == {200: 3, 429: 17}
    refused = await client.post("/refresh")
    assert refused.body["errors"] == {"refresh": ["too many attempts"]}
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("LOGIN_LIMITS", "5/900, 50/900 ,0", (Limit(5, 900), Limit(50, 900), NO_LIMIT)),
        ("LOGIN_LIMITS", "0", (NO_LIMIT, NO_LIMIT, NO_LIMIT)),
        ("REGISTRATION_LIMIT", "1/1", Limit(1, 1)),
        ("REFRESH_LIMIT", "0", NO_LIMIT),
        ("CONFLICT_LIMIT", "60/3600", Limit(60, 3600)),
        ("PASSWORD_CHANGE_LIMIT", "1/1", Limit(1, 1)),
        ("TRUSTED_PROXIES", "2", 2),
    ],
)
def test_limits_are_read(name: str, given: str, value: object) -> None:
    environment = {name: given, "JWT_SECRET": str(SETTINGS["jwt_secret"])}
    assert getattr(Settings.load(environment, None), name.lower()) == value


@pytest.mark.parametrize(
    "name",
    [
        "LOGIN_LIMITS",
        "REGISTRATION_LIMIT",
        "REFRESH_LIMIT",
        "CONFLICT_LIMIT",
        "PASSWORD_CHANGE_LIMIT",
    ],
)
@pytest.mark.parametrize("given", ["5", "5/0", "0/5", "5/900,50/900", "5/-1", "a/b", "٥/900"])
def test_a_limit_that_cannot_be_read_is_one_sentence(name: str, given: str) -> None:
    environment = {name: given, "JWT_SECRET": str(SETTINGS["jwt_secret"])}
    with pytest.raises(SettingsError) as raised:
        Settings.load(environment, None)
    (sentence,) = raised.value.errors
    assert sentence.startswith(f"{name} must be ")
