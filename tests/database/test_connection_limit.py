"""More connections than the server allows are one warning at start, and no error."""

import logging
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from service.database.connection_limit import warn_of_connection_limit
from service.settings.settings import Settings
from tests.processes import serve


def allowed(url: str) -> int:
    """How many connections an ordinary user gets."""
    reserving = ["superuser_reserved_connections", "reserved_connections"]
    with psycopg.connect(url) as connection:
        (reserved,) = connection.execute(
            "select sum(setting::int) from pg_settings where name = any(%s)", (reserving,)
        ).fetchone() or (0,)
        (most,) = connection.execute("show max_connections").fetchone() or ("0",)
    return int(most) - int(reserved)


def warnings(caplog: pytest.LogCaptureFixture, url: str, **settings: int) -> list[str]:
    """What the start warns of with these settings."""
    caplog.clear()
    warn_of_connection_limit(Settings(**settings), url)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("processes", [1, 3])
def test_connections_above_the_limit_of_the_server_are_one_warning(
    database_url: str, caplog: pytest.LogCaptureFixture, processes: int
) -> None:
    limit = allowed(database_url)
    most = limit // processes - 2  # Two connections of each process are not of its pool.
    settings = {"web_concurrency": processes, "database_pool_size": most}
    assert warnings(caplog, database_url, **settings) == []
    settings["database_pool_size"] += 1
    assert warnings(caplog, database_url, **settings) == [
        f"more connections than the server allows: wanted={processes * (most + 3)}"
        f" allowed={limit}; lower WEB_CONCURRENCY or DATABASE_POOL_SIZE, or raise max_connections"
    ]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_server_that_is_away_is_no_fault_of_the_settings(caplog: pytest.LogCaptureFixture) -> None:
    assert warnings(caplog, "postgresql:///x?host=/nowhere", database_pool_size=1000) == []


def test_service_that_may_open_too_many_connections_starts_with_one_warning(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    settings = {"WEB_CONCURRENCY": 2, "DATABASE_POOL_SIZE": 1000}
    with serve(tmp_path, DATABASE_URL=new_database(), **settings) as service:
        service.serving().register("jake")
        told = [line["message"] for line in service.log() if line["level"] == "warning"]
        assert len(told) == 1 and "wanted=2004 " in told[0]
