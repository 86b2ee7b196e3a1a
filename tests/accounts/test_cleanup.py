"""The clean-up: the rows that it deletes and keeps, and its lock."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from service.accounts import cleanup
from service.accounts.cleanup import BATCH, LOCK, clean_up, clean_up_periodically
from service.database.pool import DATABASE, Database
from service.mail.outbox import SENT_TTL
from tests.conftest import Client, Device

DAY = 86_400  # ACCESS_TOKEN_TTL


async def clean(client: Client) -> int:
    database: Database = client.http.app[DATABASE]
    return await clean_up(database, client.settings)


@asynccontextmanager
async def other_process(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection inside a transaction that ends with the block."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def test_cleanup_keeps_rows_that_are_in_use(client: Client, db: asyncpg.Connection) -> None:
    device = await client.open_account("alice")
    assert await clean(client) == 0
    assert (await client.refresh(device.refresh)).status == 200


@pytest.mark.parametrize("column", ["expires_at", "ended_at"])
async def test_cleanup_deletes_a_session_after_the_lifetime_of_an_access_token(
    client: Client, db: asyncpg.Connection, column: str
) -> None:
    await client.open_account("alice")
    kept, gone = await client.sign_in("alice"), await client.sign_in("alice")
    for session, seconds in ((kept.session, DAY - 30), (gone.session, DAY + 30)):
        moment = "now() - make_interval(secs => $2)"
        change = {
            "expires_at": f"expires_at = {moment}",
            "ended_at": f"ended_at = {moment}, end_reason = 'evicted'",
        }[column]
        await db.execute(f"update sessions set {change} where id = $1", session, seconds)  # noqa: S608
    assert await clean(client) == 1
    left = {str(row["id"]) for row in await db.fetch("select id from sessions")}
    assert kept.session in left and gone.session not in left and len(left) == 2
    assert await db.fetchval("select count(*) from refresh_tokens") == 2
    # Until the row is deleted, the response gives the reason of the end.
    codes = [
        (await client.get("/api/user", token=device.access)).body["code"] for device in (kept, gone)
    ]
    reason = "session_evicted" if column == "ended_at" else "token_revoked"
    assert codes == [reason, "token_revoked"]
    assert (await client.refresh(gone.refresh)).body["code"] == "refresh_token_invalid"


async def test_cleanup_keeps_old_refresh_tokens_that_reveal_a_theft(
    client: Client, db: asyncpg.Connection
) -> None:
    stolen = await client.open_account("alice")
    thief = Device.of(await client.refresh(stolen.refresh))
    await db.execute("update sessions set rotated_at = rotated_at - interval '20 days'")
    thief = Device.of(await client.refresh(thief.refresh))
    assert await clean(client) == 0
    assert (await client.refresh(stolen.refresh)).body["code"] == "refresh_token_reused"
    assert (await client.refresh(thief.refresh)).body["code"] == "refresh_token_revoked"


async def test_cleanup_deletes_events_older_than_their_lifetime(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    await db.execute(
        "insert into events (user_id, kind, created_at) values"
        " (gen_random_uuid(), 'old', now() - interval '90 days 1 minute'),"
        " (gen_random_uuid(), 'kept', now() - interval '89 days 23 hours'),"
        " (null, 'old', now() - interval '1 day 1 minute'),"
        " (null, 'kept', now() - interval '23 hours')"
    )
    assert await clean(client) == 2
    kinds = {row["kind"] for row in await db.fetch("select kind from events")}
    assert kinds == {"registered", "kept"}


async def test_cleanup_deletes_any_number_of_rows_in_batches(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    many = 2 * BATCH + 1
    await db.execute(
        "insert into events (kind, created_at)"
        " select 'old', now() - interval '1 year' from generate_series(1, $1)",
        many,
    )
    await db.execute(
        "insert into sessions (user_id, expires_at, idle_expires_at)"
        " select id, now() - interval '1 year', now() - interval '1 year'"
        " from users, generate_series(1, $1)",
        many,
    )
    assert await clean(client) == 2 * many
    assert await db.fetchval("select count(*) from sessions") == 1


async def test_cleanup_stops_while_another_process_holds_the_lock(
    client: Client, db: asyncpg.Connection, database_url: str
) -> None:
    await db.execute("insert into events (kind, created_at) values ('old', 'epoch')")
    async with other_process(database_url) as other:
        await other.execute("select pg_advisory_xact_lock($1)", LOCK)
        assert await clean(client) == 0
    assert await clean(client) == 1


async def test_cleanup_skips_locked_rows(
    client: Client, db: asyncpg.Connection, database_url: str
) -> None:
    await client.open_account("alice")
    held = await client.sign_in("alice")
    await db.execute("update sessions set expires_at = 'epoch'")
    async with other_process(database_url) as other:
        await other.execute("select from sessions where id = $1 for update", held.session)
        assert await clean(client) == 1
    assert await clean(client) == 1


async def test_cleanup_logs_a_failed_run_and_tries_again(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    database: Database = client.http.app[DATABASE]
    runs = 0
    third = asyncio.Event()

    async def fail_twice(database: Database, settings: Any) -> int:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise OSError("away")
        third.set()
        return 0

    monkeypatch.setattr(cleanup, "clean_up", fail_twice)
    monkeypatch.setattr(cleanup, "INTERVAL", 0.001)
    with caplog.at_level(logging.ERROR, "service.accounts.cleanup"):
        job = asyncio.create_task(clean_up_periodically(database, client.settings))
        await asyncio.wait_for(third.wait(), 5)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
    assert len(caplog.records) == 2


async def test_cleanup_runs_the_other_queries_when_one_fails(
    client: Client, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await client.open_account("alice")
    await db.execute("update throttle set ends_at = now()")
    await db.execute("update sessions set expires_at = 'epoch'")
    await db.execute("alter table events rename to events_away")
    try:
        assert await clean(client) == 3
    finally:
        await db.execute("alter table events_away rename to events")
    failed = [record.getMessage() for record in caplog.records if record.name == cleanup.__name__]
    assert failed == [
        "cleanup query failed: query=cleanup.delete_events",
        "cleanup query failed: query=cleanup.delete_unknown_account_events",
    ]


async def test_cleanup_task_starts_and_stops_with_the_process(client: Client) -> None:
    def jobs() -> list[str]:
        return [
            task.get_coro().__qualname__  # type: ignore[union-attr]
            for task in asyncio.all_tasks()
            if "clean_up_periodically" in repr(task)
        ]

    assert len(jobs()) == 1
    await client.http.close()
    assert jobs() == []


async def test_cleanup_deletes_expired_counters_and_known_ips(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    assert await clean(client) == 0
    await db.execute("update throttle set ends_at = now()")
    await db.execute("update known_ips set last_seen = now() - interval '30 days'")
    # The counters of the registration and of the verification mail, and one IP address.
    assert await clean(client) == 3
    assert await db.fetchval("select count(*) from throttle") == 0
    assert await db.fetchval("select count(*) from known_ips") == 0


async def test_cleanup_deletes_sent_and_refused_mails_after_their_time(
    client: Client, db: asyncpg.Connection
) -> None:
    for state, kept, gone in (("sent", SENT_TTL - 60, SENT_TTL + 60), ("refused", DAY, 31 * DAY)):
        await db.execute(
            "insert into outbox (recipient, template, language, values, state, finished_at)"
            " select age, 'x', 'en', '{}', $1, now() - make_interval(secs => seconds)"
            " from unnest(array['kept', 'gone'], array[$2, $3]::integer[]) as row (age, seconds)",
            state,
            kept,
            gone,
        )
    await db.execute(
        "insert into outbox (recipient, template, language, values, created_at, due_at)"
        " values ('waits', 'x', 'en', '{}', 'epoch', 'infinity')"
    )
    assert await clean(client) == 2
    left = [row["recipient"] for row in await db.fetch("select recipient from outbox order by 1")]
    assert left == ["kept", "kept", "waits"]
