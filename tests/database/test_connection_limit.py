"""Test the warning at start when the processes may open more connections than allowed."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.database.connection_limit import warn_of_connection_limit
from service.settings.settings import Settings
from tests.pgbouncer import without_pgbouncer
from tests.processes import serve


def allowed_connections(url: str) -> int:
    """Return the number of connections that an ordinary user can open."""
    reserving = ["superuser_reserved_connections", "reserved_connections"]
    with psycopg.connect(url) as connection:
        (reserved,) = connection.execute(
            "select sum(setting::int) from pg_settings where name = any(%s)", (reserving,)
        ).fetchone() or (0,)
        (maximum,) = connection.execute("show max_connections").fetchone() or ("0",)
    return int(maximum) - int(reserved)


def warnings(caplog: pytest.LogCaptureFixture, url: str, **settings: Any) -> list[str]:
    """Return the warnings of a start with these settings."""
    caplog.clear()
    warn_of_connection_limit(Settings(**settings), url)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("processes", [1, 3])
def test_start_warns_once_when_connections_exceed_the_limit(
    database_url: str, caplog: pytest.LogCaptureFixture, processes: int
) -> None:
    limit = allowed_connections(database_url)
    size = limit // processes - 2  # Each process opens two connections beside its pool.
    settings = {"web_concurrency": processes, "database_pool_size": size}
    assert warnings(caplog, database_url, **settings) == []
    settings["database_pool_size"] += 1
    assert warnings(caplog, database_url, **settings) == [
        f"more connections than the server allows: wanted={processes * (size + 3)}"
        f" allowed={limit}; lower WEB_CONCURRENCY or DATABASE_POOL_SIZE, or raise max_connections"
    ]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_no_warning_when_the_server_is_unreachable(caplog: pytest.LogCaptureFixture) -> None:
    assert warnings(caplog, "postgresql:///x?host=/nowhere", database_pool_size=1000) == []


@without_pgbouncer
def test_service_starts_with_one_warning_when_connections_exceed_the_limit(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    settings: dict[str, Any] = {"WEB_CONCURRENCY": 2, "DATABASE_POOL_SIZE": 1000}
    with serve(tmp_path, DATABASE_URL=new_database(), **settings) as service:
        service.wait_until_serving().register("jake")
        warned = [line["message"] for line in service.log() if line["level"] == "warning"]
        about_connections = [message for message in warned if "connections" in message]
        assert len(about_connections) == 1 and "wanted=2004 " in about_connections[0]
