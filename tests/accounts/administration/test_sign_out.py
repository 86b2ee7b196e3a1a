"""Sign everybody out, while people refresh, log in and log out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

import sql
from service.accounts.administration import sign_out
from service.accounts.administration.sign_out import SessionsLocked, sign_out_everybody
from service.database.change_listener import CHANGE_LISTENER
from service.settings.rate_limit import NO_LIMIT
from tests.accounts.account_locks import ADMINISTRATOR, count_open_sessions
from tests.accounts.administration.users import database_of
from tests.accounts.mailed_links import client_without_delivery
from tests.accounts.two_factor.authenticator_app import (
    AuthenticatorApp,
    challenge_of,
    second_step,
    turn_on,
    verify_email,
)
from tests.accounts.two_instances import REVOKED, TwoInstances, wait_until_trusted
from tests.conftest import COUNT_BLOCKED, Client, Device, MakeClient, until_blocked

INSERT_SESSIONS = """
    insert into sessions (user_id, expires_at, idle_expires_at)
    select id, now() + interval '1 day', now() + interval '1 day'
    from users, generate_series(1, $1::integer)
"""


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    limits = {"login_limits": (NO_LIMIT, NO_LIMIT, NO_LIMIT), "refresh_limit": NO_LIMIT}
    # The cache is on in every run: a session that it has must end, too.
    return await client_without_delivery(make_client, user_cache_size=1000, **limits)


async def sign_everybody_out(client: Client) -> int:
    """Sign everybody out as a command does: another process than the service."""
    return await sign_out_everybody(database_of(client), ADMINISTRATOR, lambda _, __: None)


def after_each_batch(
    client: Client, monkeypatch: pytest.MonkeyPatch, call: Callable[[], Awaitable[None]]
) -> None:
    """Await ``call`` after each batch."""
    database = database_of(client)
    run = database.run

    async def run_and_call(query: sql.Query, arguments: list[Any]) -> Any:
        result = await run(query, arguments)
        if query.name == "end_batch":
            await call()
        return result

    monkeypatch.setattr(database, "run", run_and_call)


async def after_sync(client: Client) -> Client:
    """Return the client of the service that has applied every change."""
    assert client.http.app is not None
    await client.http.app[CHANGE_LISTENER].wait_until_applied()
    return client


async def test_every_session_ends_and_each_end_is_logged(
    client: Client, db: asyncpg.Connection
) -> None:
    await wait_until_trusted(client)
    devices = [
        await client.open_account("alice"),
        await client.sign_in("alice"),
        await client.open_account("bob"),
    ]
    for device in devices:
        assert await client.is_authenticated(device.access)
    assert await sign_everybody_out(client) == 3
    await after_sync(client)
    for device in devices:
        assert (await client.get("/api/user", token=device.access)).body == REVOKED
        assert (await client.refresh(device.refresh)).body["code"] == "refresh_token_revoked"
    events = await db.fetch("select actor, session_id from events where kind = 'session_ended'")
    assert {(row["actor"], str(row["session_id"])) for row in events} == {
        ("cli", device.session) for device in devices
    }
    reasons = await db.fetch("select distinct end_reason from sessions")
    assert [row["end_reason"] for row in reasons] == ["signed_out_by_administrator"]
    # Everybody can log in again, and a second command finds nothing from before the first.
    again = await client.sign_in("alice")
    assert await client.is_authenticated(again.access)


async def test_session_that_another_process_has_cached_ends(instances: TwoInstances) -> None:
    await sign_everybody_out(instances.first)
    response = await instances.after_sync()
    assert (response.status, response.body) == (401, REVOKED)


async def test_sessions_end_in_batches_of_a_bounded_size(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_out, "BATCH", 3)
    await client.register("alice")
    await db.execute(INSERT_SESSIONS, 10)
    # These need no end, and one of them has no event.
    await db.execute(
        "update sessions set ended_at = now(), end_reason = 'x'"
        " where id in (select id from sessions order by id limit 4)"
    )
    await db.execute(
        "update sessions set idle_expires_at = now()"
        " where id in (select id from sessions where ended_at is null order by id limit 1)"
    )
    progress: list[tuple[int, float]] = []
    total = await sign_out_everybody(
        database_of(client), ADMINISTRATOR, lambda count, part: progress.append((count, part))
    )
    assert total == 6
    assert await count_open_sessions(db) == 0
    counts, parts = zip(*progress, strict=True)
    assert len(counts) == 4 and counts[-1] == 6
    assert list(parts) == sorted(parts) and parts[0] > 0 and parts[-1] < 1
    query = "select count(*) from events where kind = 'session_ended'"
    assert await db.fetchval(query) == 6


async def test_session_that_a_refresh_holds_locked_ends_with_its_new_tokens(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await client.open_account("alice")
    batches: list[None] = []

    async def count_batch() -> None:
        batches.append(None)

    after_each_batch(client, monkeypatch, count_batch)
    async with db.transaction():
        await db.execute("select from sessions for update")
        refreshing = asyncio.create_task(client.refresh(device.refresh))
        await until_blocked(db, 1)
        signing_out = asyncio.create_task(sign_everybody_out(client))
        # It tries again, and does not end without this session.
        while len(batches) < 3:
            assert not signing_out.done()
            await asyncio.sleep(0)
    refreshed = await refreshing
    await signing_out
    await after_sync(client)
    assert await count_open_sessions(db) == 0
    if refreshed.status == 200:
        new = Device.of(refreshed)
        assert not await client.is_authenticated(new.access)
        assert (await client.refresh(new.refresh)).status == 401
    assert not await client.is_authenticated(device.access)


async def test_refreshes_that_race_keep_no_session(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Devices refresh all the time, each with the tokens of its last refresh."""
    monkeypatch.setattr(sign_out, "BATCH", 2)
    await client.open_account("alice")
    devices = [await client.sign_in("alice") for _ in range(12)]
    is_running = True

    async def refresh_until_refused(device: Device) -> tuple[Device, str]:
        while True:
            response = await client.refresh(device.refresh)
            if response.status != 200:
                return device, response.body["code"]
            device = Device.of(response)
            assert is_running

    under_way = asyncio.gather(*(refresh_until_refused(device) for device in devices))
    await sign_everybody_out(client)
    is_running = False
    results: list[Any] = await under_way
    await after_sync(client)
    for device, code in results:
        assert code == "refresh_token_revoked"
        assert not await client.is_authenticated(device.access)
    assert await count_open_sessions(db) == 0


async def test_batch_is_no_part_of_a_deadlock(
    client: Client, db: asyncpg.Connection, database_url: str
) -> None:
    """A transaction ends the sessions of a user in another order than the batch."""
    await client.register("alice")
    await db.execute(INSERT_SESSIONS, 2)
    ids = [row["id"] for row in await db.fetch("select id from sessions order by id")]
    other = await asyncpg.connect(database_url)
    end = "update sessions set ended_at = now(), end_reason = 'x' where id = $1"
    try:
        async with other.transaction():
            await other.execute(end, ids[-1])
            signing_out = asyncio.create_task(sign_everybody_out(client))
            while await count_open_sessions(db) > 1:
                await db.execute("select pg_stat_clear_snapshot()")
                assert await db.fetchval(COUNT_BLOCKED) == 0
                assert not signing_out.done()
            # The batch has committed, and holds no lock for which this waits.
            await other.execute(end, ids[0])
        assert await signing_out == 2
    finally:
        await other.close()


async def test_sessions_that_stay_locked_are_reported(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_out, "MAX_RETRIES", 3)
    await client.open_account("alice")
    async with db.transaction():
        await db.execute("select from sessions for update")
        with pytest.raises(SessionsLocked, match="keeps 1 sessions locked"):
            await sign_everybody_out(client)


async def test_login_that_waits_for_the_second_factor_ends(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = AuthenticatorApp(monkeypatch)
    device = await client.open_account("alice")
    await verify_email(db)
    await turn_on(client, device, app)
    challenge = await challenge_of(client)
    await sign_everybody_out(client)
    response = await second_step(client, challenge, app.next_code())
    assert (response.status, response.body["code"]) == (401, "challenge_invalid")
    response = await second_step(client, await challenge_of(client), app.next_code())
    assert response.status == 200


async def test_people_who_log_in_meanwhile_stay_signed_in(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_out, "BATCH", 1)
    await client.open_account("alice")
    await db.execute(INSERT_SESSIONS, 3)
    devices: list[Device] = []

    async def log_in_after_the_first_batch() -> None:
        if not devices:
            devices.extend([await client.sign_in("alice") for _ in range(5)])

    after_each_batch(client, monkeypatch, log_in_after_the_first_batch)
    await sign_everybody_out(client)
    await after_sync(client)
    assert [await client.is_authenticated(device.access) for device in devices] == [True] * 5
    assert await count_open_sessions(db) == 5


async def test_batch_reads_a_bounded_number_of_rows_with_a_plan_for_any_limit(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.register("alice")
    await db.execute(INSERT_SESSIONS, 20_000)
    await db.execute("analyze sessions")
    (query,) = (query for query in sql.NAMESPACES["sign_out"] if query.name == "end_batch")
    values = "'00000000-0000-0000-0000-000000000000', 10, now(), 'x', null, null, 'cli'"
    types = "uuid, integer, timestamptz, text, text, text, text"
    async with db.transaction():
        await db.execute(
            "set local plan_cache_mode = force_generic_plan;"
            f" prepare batch ({types}) as {query.text}"
        )
        plan = await db.fetch(f"explain execute batch ({values})")
        await db.execute("deallocate batch")
    assert "Seq Scan on sessions" not in "\n".join(row[0] for row in plan)
