"""Test the check of the database."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from service.doctor.database_check import (
    check_database,
    clock_finding,
    connection_finding,
    migration_finding,
)
from service.doctor.findings import Status
from service.settings.settings import Settings
from tests.conftest import SETTINGS
from tests.doctor.checks import messages, problems, run_check


async def test_migrated_database_has_no_problem(database_url: str) -> None:
    findings = await run_check(check_database, database_url)
    assert problems(findings) == []
    text = messages(findings)
    assert "PostgreSQL 1" in text
    assert "are applied" in text
    assert "clocks" in text
    assert "privileges" in text
    assert "open now" in text


async def test_embedded_server_that_does_not_run_is_a_note() -> None:
    (finding,) = await run_check(check_database, None)
    assert finding.status is Status.NOTE
    assert "start the service" in (finding.action or "")


async def test_database_that_cannot_be_reached_is_a_problem() -> None:
    findings = await run_check(check_database, "postgresql://u:word@127.0.0.1:1/x")
    assert "cannot be reached" in problems(findings)[0]


async def test_database_without_a_schema_has_pending_migrations(
    new_database: Callable[[], str],
) -> None:
    (message,) = problems(await run_check(check_database, new_database()))
    assert message.startswith("migrations pending: ")


async def test_missing_privileges_are_named(db: asyncpg.Connection, database_url: str) -> None:
    await db.execute("create role reader login")
    try:
        head, _, tail = database_url.partition("://")
        findings = await run_check(check_database, f"{head}://reader@{tail.partition('@')[2]}")
        text = "\n".join(problems(findings))
        assert "may not read the migrations" in text
        assert "may not create tables" in text
        assert "does not own, or may not read and write: " in text
    finally:
        await db.execute("drop role reader")


async def test_read_only_server_is_a_problem(db: asyncpg.Connection, database_url: str) -> None:
    name = await db.fetchval("select current_database()")
    await db.execute(f"alter database {name} set default_transaction_read_only = on")
    try:
        findings = await run_check(check_database, database_url)
        assert problems(findings) == ["the server is read-only: every change gets 503"]
    finally:
        await db.execute(f"alter database {name} reset default_transaction_read_only")


@pytest.mark.parametrize(
    ("known", "applied", "start"),
    [
        (["1", "2"], ["1", "2"], "migrations: all 2 are applied"),
        (["1", "2", "3", "4", "5"], ["1"], "migrations pending: 4 (2, 3, 4 and 1 more)"),
        (["1"], ["1", "2"], "a newer version of the service has migrated the database: 2"),
    ],
)
def test_migrations_are_compared(known: list[str], applied: list[str], start: str) -> None:
    assert migration_finding(known, applied).message == start


@pytest.mark.parametrize(
    ("skew", "uncertainty", "words"),
    [
        (0.3, 0.1, "differ by 0.3 s"),
        (7.0, 0.1, "7.0 s ahead of"),
        (-7.0, 0.1, "7.0 s behind"),
        (7.0, 3.0, "differ by 7.0 s"),
    ],
)
def test_clock_skew_is_a_problem_beyond_its_limit(
    skew: float, uncertainty: float, words: str
) -> None:
    finding = clock_finding(skew, uncertainty)
    assert words in finding.message
    assert (finding.status is Status.OK) == words.startswith("differ")


@pytest.mark.parametrize(
    ("processes", "allowed", "wanted", "status"),
    [
        (0, 97, "up to 36 (processes: 2", Status.OK),
        (2, 72, "up to 36 (processes: 2", Status.OK),
        (5, 97, "up to 90 (processes: 5", Status.NOTE),
        (6, 97, "up to 108 (processes: 6", Status.PROBLEM),
        (0, 35, "up to 36 (processes: 2", Status.PROBLEM),
    ],
)
def test_connections_of_every_process_are_compared_with_the_limit(
    processes: int, allowed: int, wanted: str, status: Status
) -> None:
    """Processes of other machines count as well: they listen to the same database."""
    settings = Settings(web_concurrency=2, database_pool_size=16)
    limits: dict[str, Any] = {"processes": processes, "allowed": allowed, "open": 3}
    finding = connection_finding(settings, limits)
    assert wanted in finding.message
    assert finding.status is status


async def test_processes_that_listen_are_counted(database_url: str, make_client: Any) -> None:
    await make_client()
    await make_client()
    expected = 2 if SETTINGS["user_cache_size"] else 1
    async with asyncio.timeout(20):
        # The listeners connect after the start.
        while f"processes: {expected}, each" not in messages(
            await run_check(check_database, database_url, database_pool_size=1)
        ):
            pass
