"""Test ``migrate`` with migrations that fail, are interrupted or are unknown."""

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
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the folder of migrations by an empty one, and return it."""
    monkeypatch.setattr(migration, "MIGRATIONS", tmp_path)
    return tmp_path


def migrate(url: str) -> int:
    """Migrate and return the number of applied migrations."""
    return migration.migrate(url, lambda _: None)


def tables(url: str) -> set[str]:
    """Return the names of the tables that migrations created."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select tablename from pg_tables where schemaname = 'public'"
            " and tablename not like '%yoyo%'"
        )
        return {name for (name,) in rows}


def test_failed_migration_is_rolled_back_and_can_be_repeated(
    new_database: Callable[[], str], migrations: Path
) -> None:
    url = new_database()
    (migrations / "0001_first.sql").write_text("create table first ();")
    (migrations / "0002_second.sql").write_text("create table second (); select 1 / 0;")
    with pytest.raises(migration.MigrationError, match=r"migrated: division by zero$"):
        migrate(url)
    assert tables(url) == {"first"}
    (migrations / "0002_second.sql").write_text("create table second ();")
    assert migrate(url) == 1
    assert tables(url) == {"first", "second"}


def test_migration_is_rolled_back_when_it_cannot_be_recorded(
    new_database: Callable[[], str], migrations: Path
) -> None:
    url = new_database()
    assert migrate(url) == 0
    (migrations / "0001_first.sql").write_text("create table first ();")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter table _yoyo_migration add constraint always_fails check (false)")
        with pytest.raises(migration.MigrationError, match="always_fails"):
            migrate(url)
        assert tables(url) == set()
        connection.execute("alter table _yoyo_migration drop constraint always_fails")
    assert migrate(url) == 1


def test_migration_can_run_without_a_transaction(
    new_database: Callable[[], str], migrations: Path
) -> None:
    url = new_database()
    (migrations / "0001_first.sql").write_text("create table first (id int);")
    (migrations / "0002_index.sql").write_text(
        "-- transactional: false\ncreate index concurrently on first (id);"
    )
    assert migrate(url) == 2
    assert migrate(url) == 0


def test_migrate_rejects_a_database_of_a_newer_version(
    new_database: Callable[[], str], migrations: Path
) -> None:
    url = new_database()
    (migrations / "0001_first.sql").write_text("create table first ();")
    (migrations / "0003_third.sql").write_text("create table third ();")
    assert migrate(url) == 2
    (migrations / "0003_third.sql").unlink()
    (migrations / "0002_second.sql").write_text("create table second ();")
    with pytest.raises(migration.MigrationError) as raised:
        migrate(url)
    assert str(raised.value) == (
        "The database belongs to a newer version of this service, which applied 0003_third:"
        " run that version, or restore a backup from before it."
    )
    assert tables(url) == {"first", "third"}, "nothing was applied"


def test_migrate_rejects_a_database_of_an_unreleased_commit(
    new_database: Callable[[], str], migrations: Path
) -> None:
    url = new_database()
    for name in ("0001_users", "0004_sessions"):
        (migrations / f"{name}.sql").write_text(f'create table "{name}" ();')
    assert migrate(url) == 2
    for path in migrations.iterdir():
        path.unlink()
    (migrations / "0001_accounts.sql").write_text("create table accounts ();")
    with pytest.raises(migration.MigrationError) as raised:
        migrate(url)
    assert str(raised.value) == (
        "The database was made by an earlier, unreleased commit of this service: drop it and"
        " create it anew, or remove the folder DATA_DIR (.data) if it is the embedded one."
    )
    assert tables(url) == {"0001_users", "0004_sessions"}, "nothing was applied"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT raise ``KeyboardInterrupt``. A shell ignores it for tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_migrate_rejects_a_database_that_is_not_in_utf8(
    new_database: Callable[[], str], server_url: str
) -> None:
    url = new_database()
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"drop database {name}")
        connection.execute(
            f"create database {name} encoding 'SQL_ASCII' template template0"
            " locale_provider libc locale 'C'"
        )
    sentence = f"The database {name} has the encoding SQL_ASCII, but UTF8 is needed"
    with pytest.raises(migration.MigrationError, match=sentence):
        migrate(url)
    assert tables(url) == set()


@pytest.mark.usefixtures("interruptible")
def test_interrupt_rolls_the_migration_back_and_raises_keyboard_interrupt(
    new_database: Callable[[], str], migrations: Path
) -> None:
    url = new_database()
    (migrations / "0001_slow.sql").write_text("create table slow (); select pg_sleep(60);")

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
    (migrations / "0001_slow.sql").write_text("create table slow ();")
    assert migrate(url) == 1
