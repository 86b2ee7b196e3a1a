"""A migration that fails or is broken off leaves the database as it was."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from service.database import migrate as migration
from tests.conftest import COUNT_SLEEPING
from tests.processes import eventually


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of migrations in place of ours."""
    monkeypatch.setattr(migration, "MIGRATIONS", tmp_path)
    return tmp_path


def migrate(url: str) -> int:
    """Migrate; how many migrations were applied."""
    return migration.migrate(url, lambda _: None)


def tables(url: str) -> set[str]:
    """Our tables."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select tablename from pg_tables where schemaname = 'public'"
            " and tablename not like '%yoyo%'"
        )
        return {name for (name,) in rows}


def test_a_migration_that_fails_is_told_and_undone(
    new_database: Callable[[], str], files: Path
) -> None:
    url = new_database()
    (files / "0001_first.sql").write_text("create table first ();")
    (files / "0002_second.sql").write_text("create table second (); select 1 / 0;")
    with pytest.raises(migration.MigrationError, match=r"migrated: division by zero$"):
        migrate(url)
    assert tables(url) == {"first"}
    (files / "0002_second.sql").write_text("create table second ();")
    assert migrate(url) == 1
    assert tables(url) == {"first", "second"}


def test_a_migration_is_undone_when_it_cannot_be_noted(
    new_database: Callable[[], str], files: Path
) -> None:
    url = new_database()
    assert migrate(url) == 0
    (files / "0001_first.sql").write_text("create table first ();")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter table _yoyo_migration add constraint full_up check (false)")
        with pytest.raises(migration.MigrationError, match="full_up"):
            migrate(url)
        assert tables(url) == set()
        connection.execute("alter table _yoyo_migration drop constraint full_up")
    assert migrate(url) == 1


def test_a_migration_may_do_without_a_transaction(
    new_database: Callable[[], str], files: Path
) -> None:
    url = new_database()
    (files / "0001_first.sql").write_text("create table first (id int);")
    (files / "0002_index.sql").write_text(
        "-- transactional: false\ncreate index concurrently on first (id);"
    )
    assert migrate(url) == 2
    assert migrate(url) == 0


def test_a_database_of_a_newer_version_is_rejected(
    new_database: Callable[[], str], files: Path
) -> None:
    url = new_database()
    (files / "0001_first.sql").write_text("create table first ();")
    (files / "0003_third.sql").write_text("create table third ();")
    assert migrate(url) == 2
    (files / "0003_third.sql").unlink()
    (files / "0002_second.sql").write_text("create table second ();")
    with pytest.raises(migration.MigrationError) as refused:
        migrate(url)
    assert str(refused.value) == (
        "The database belongs to a newer version of this service, which applied 0003_third:"
        " run that version, or restore a backup from before it."
    )
    assert tables(url) == {"first", "third"}, "nothing was applied"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, also where a shell started the tests in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interruption_breaks_off_a_migration_and_is_not_a_failure(
    new_database: Callable[[], str], files: Path
) -> None:
    url = new_database()
    (files / "0001_slow.sql").write_text("create table slow (); select pg_sleep(60);")

    def interrupt() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            eventually(lambda: connection.execute(COUNT_SLEEPING).fetchone() != (0,))
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with contextlib.ExitStack() as stack:
        stack.callback(interrupter.join)
        with pytest.raises(KeyboardInterrupt):
            migrate(url)
    assert tables(url) == set()
    (files / "0001_slow.sql").write_text("create table slow ();")
    assert migrate(url) == 1
