"""Test that the start rejects database URLs that a pooler makes useless, with a real PgBouncer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.database import pooler_check
from service.database.migrate import MigrationError
from service.database.pooler_check import PoolerError, check_pooler
from service.settings.settings import Settings
from tests.conftest import url_of
from tests.pgbouncer import PgBouncer, needs_pgbouncer, supports_prepared_statements
from tests.processes import RUN, serve

pytestmark = needs_pgbouncer


@pytest.fixture(scope="module")
def pooler(server_url: str) -> Iterator[PgBouncer]:
    """Yield a PgBouncer in transaction mode, without support for prepared statements."""
    options: dict[str, Any] = {}
    if supports_prepared_statements():
        options["max_prepared_statements"] = "0"
    with PgBouncer(server_url, **options) as pgbouncer:
        yield pgbouncer


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for a notification that never comes."""
    monkeypatch.setattr(pooler_check, "NOTIFICATION_TIMEOUT", 0.5)


def check(url: str, listen_url: str | None = None, **changes: Any) -> None:
    """Check the pooler with these URLs."""
    settings = Settings(database_url=url, database_listen_url=listen_url, **changes)
    check_pooler(settings, lambda _: None)


def test_url_of_postgresql_itself_is_accepted(database_url: str) -> None:
    check(database_url)
    check(database_url, database_url)


def test_embedded_server_is_not_checked() -> None:
    check_pooler(Settings(), lambda _: None)


def test_pooler_in_transaction_mode_without_a_listen_url_is_rejected(
    pooler: PgBouncer, database_url: str, short_timeout: None
) -> None:
    with pytest.raises(PoolerError, match="set DATABASE_LISTEN_URL to the URL of PostgreSQL"):
        check(pooler.url(database_url), database_prepared_statements=False)


def test_pooler_in_transaction_mode_as_the_listen_url_is_rejected(
    pooler: PgBouncer, database_url: str, short_timeout: None
) -> None:
    url = pooler.url(database_url)
    with pytest.raises(PoolerError, match="DATABASE_LISTEN_URL receives no notifications"):
        check(url, url, database_prepared_statements=False)


def test_listen_url_of_another_database_is_rejected(
    database_url: str, new_database: Callable[[], str], short_timeout: None
) -> None:
    with pytest.raises(PoolerError, match="it must be the URL of the same database"):
        check(database_url, new_database())


def test_pooler_with_a_listen_url_is_accepted(pooler: PgBouncer, database_url: str) -> None:
    check(pooler.url(database_url), database_url, database_prepared_statements=False)


def test_pooler_in_session_mode_needs_no_listen_url(server_url: str, database_url: str) -> None:
    with PgBouncer(server_url, pool_mode="session") as pgbouncer:
        check(pgbouncer.url(database_url))


def test_pooler_without_prepared_statements_is_rejected(
    pooler: PgBouncer, database_url: str
) -> None:
    url = pooler.url(database_url)
    for _ in range(2):  # The first check leaves nothing behind that the second finds.
        with pytest.raises(PoolerError, match="set DATABASE_PREPARED_STATEMENTS=false"):
            check(url, database_url)
    with psycopg.connect(url, autocommit=True) as connection:
        prepared = "select count(*) from pg_prepared_statements where name like 'pooler_check%%'"
        assert connection.execute(prepared, prepare=False).fetchone() == (0,)


@pytest.mark.skipif(not supports_prepared_statements(), reason="needs PgBouncer 1.21")
def test_pooler_with_prepared_statements_is_accepted(server_url: str, database_url: str) -> None:
    with PgBouncer(server_url, max_prepared_statements="200") as pgbouncer:
        check(pgbouncer.url(database_url), database_url)


def test_pooler_without_the_database_is_rejected_at_once(
    pooler: PgBouncer, database_url: str
) -> None:
    url = url_of(pooler.url(database_url), "no_such_database")
    with pytest.raises(MigrationError, match="no_such_database"):
        check(url, database_url)


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_start_behind_a_pooler_says_what_to_set(
    tmp_path: Path, pooler: PgBouncer, database_url: str, command: str
) -> None:
    url = pooler.url(database_url)
    program = (*RUN, command)
    with serve(tmp_path, command=program, DATABASE_URL=url, DATABASE_LISTEN_URL=url) as service:
        assert service.wait_for_exit() == 1
        assert service.err.startswith("LISTEN through DATABASE_LISTEN_URL receives no notific")
