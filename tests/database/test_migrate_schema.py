"""Test the migrations of the service: up, down and up again, and the command that applies them."""

import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import psycopg.sql
import pytest
import yoyo

from service.database import migrate as module
from service.database.migrate import MIGRATIONS, MigrationError, migrate
from tests.conftest import url_of

NewDatabase = Callable[[], str]

WAITING = "Waiting for another process that migrates the database ..."

# Every object that a migration creates, as PostgreSQL describes it.
SCHEMA = """
select 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
       pg_get_expr(d.adbin, d.adrelid)
from pg_attribute a
join pg_class c on c.oid = a.attrelid
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
  and a.attnum > 0 and not a.attisdropped
union all
select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), null, null
from pg_constraint where connamespace = 'public'::regnamespace
union all
select 'index', tablename, indexname, indexdef, null, null
from pg_indexes where schemaname = 'public'
union all
select 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), null, null
from pg_trigger where not tgisinternal
union all
select 'function', proname, null, pg_get_functiondef(p.oid), null, null
from pg_proc p
where pronamespace = 'public'::regnamespace and prokind in ('f', 'p')
  and not exists (select from pg_depend where objid = p.oid and deptype = 'e')
union all
select 'type', typname, typtype::text, null, null, null
from pg_type where typnamespace = 'public'::regnamespace
union all
select 'sequence', relname, null, null, null, null
from pg_class where relnamespace = 'public'::regnamespace and relkind = 'S'
union all
select 'extension', extname, null, null, null, null from pg_extension
order by 1, 2, 3, 4
"""


def schema_of(url: str) -> list[Any]:
    """Return every object in the database except the tables of yoyo."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(SCHEMA).fetchall()
    return [row for row in rows if "yoyo" not in str(row)]


def migration_names() -> list[str]:
    return sorted(
        path.name.removesuffix(".sql")
        for path in MIGRATIONS.glob("*.sql")
        if not path.name.endswith(".rollback.sql")
    )


def applied_migrations(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        query = "select migration_id from _yoyo_migration order by migration_id"
        return [row[0] for row in connection.execute(query)]


@contextmanager
def yoyo_backend(url: str) -> Iterator[Any]:
    """Connect yoyo itself to the database. The service never rolls a migration back."""
    with psycopg.connect(url) as connection:
        backend_url = module._yoyo_url(connection)
    with yoyo.get_backend(backend_url) as backend:
        yield backend


def discard(_: str) -> None:
    """Discard a message."""


def test_every_migration_has_a_rollback() -> None:
    rollbacks = {
        path.name.removesuffix(".rollback.sql") for path in MIGRATIONS.glob("*.rollback.sql")
    }
    assert rollbacks == set(migration_names())
    for path in MIGRATIONS.glob("*.sql"):
        assert path.read_text(encoding="utf-8").strip()


def test_migration_numbers_are_consecutive() -> None:
    numbers = [name.partition("_")[0] for name in migration_names()]
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]


def test_every_migration_goes_up_down_and_up_again(
    new_database: NewDatabase,
) -> None:
    url = new_database()
    migrations = yoyo.read_migrations(str(MIGRATIONS))
    with yoyo_backend(url) as backend:
        for migration in backend.to_apply(migrations):
            before = schema_of(url)
            backend.apply_one(migration)
            after = schema_of(url)
            assert after != before, f"{migration.id} changes nothing"
            backend.rollback_one(migration)
            assert schema_of(url) == before, f"the rollback of {migration.id} is not complete"
            backend.apply_one(migration)
            assert schema_of(url) == after, f"{migration.id} creates another schema the second time"


def test_all_migrations_go_down_to_an_empty_schema_and_up_again(new_database: NewDatabase) -> None:
    url = new_database()
    empty = schema_of(url)
    assert migrate(url, discard) == len(migration_names())
    migrated = schema_of(url)
    with yoyo_backend(url) as backend:
        backend.rollback_migrations(backend.to_rollback(yoyo.read_migrations(str(MIGRATIONS))))
    assert schema_of(url) == empty
    assert migrate(url, discard) == len(migration_names())
    assert schema_of(url) == migrated


def test_second_migrate_applies_nothing(new_database: NewDatabase) -> None:
    url = new_database()
    messages: list[str] = []
    assert migrate(url, messages.append) == len(migration_names())
    assert messages == [f"Migrating the database: {name}" for name in migration_names()]
    assert applied_migrations(url) == migration_names()
    schema = schema_of(url)
    assert migrate(url, messages.append) == 0
    assert len(messages) == len(migration_names())
    assert schema_of(url) == schema


def test_only_one_of_several_threads_migrates(new_database: NewDatabase) -> None:
    url = new_database()
    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(lambda _: migrate(url, discard), range(4)))
    assert sorted(counts) == [0, 0, 0, len(migration_names())]
    assert applied_migrations(url) == migration_names()


MIGRATE = (
    "import sys; from service.database.migrate import migrate; print(migrate(sys.argv[1], id))"
)


def test_only_one_of_several_processes_migrates(new_database: NewDatabase) -> None:
    url = new_database()
    command = [sys.executable, "-c", MIGRATE, url]
    processes = [
        subprocess.Popen(command, cwd=MIGRATIONS.parent, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate()[0].strip() for process in processes]
    assert sorted(outputs) == ["0", "0", str(len(migration_names()))]
    assert [process.returncode for process in processes] == [0, 0, 0]


def test_migrate_breaks_the_yoyo_lock_of_a_killed_process(new_database: NewDatabase) -> None:
    url = new_database()
    with yoyo_backend(url) as backend, backend.lock():
        pass  # Creates the lock table.
    with psycopg.connect(url) as connection:
        # The lock of a process that was killed while it migrated. The operating system may have
        # given its process id to another process.
        connection.execute(
            "insert into yoyo_lock (locked, ctime, pid) values (1, now(), %s)", (os.getpid(),)
        )
    assert migrate(url, discard) == len(migration_names())
    assert migrate(url, discard) == 0


def test_migrate_waits_for_another_process_that_migrates(new_database: NewDatabase) -> None:
    url = new_database()
    messages: list[str] = []

    def unlock_when_waiting(message: str) -> None:
        messages.append(message)
        if message == WAITING:
            assert tables(url) == []
            other.execute("select pg_advisory_unlock(%s)", (module.LOCK_KEY,))

    with psycopg.connect(url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s)", (module.LOCK_KEY,))
        assert migrate(url, unlock_when_waiting) == len(migration_names())
    assert messages[0] == WAITING


def tables(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select tablename from pg_tables where schemaname = 'public'"
        ).fetchall()


def test_migrate_fails_immediately_when_the_database_does_not_exist(server_url: str) -> None:
    with pytest.raises(MigrationError) as raised:
        migrate(url_of(server_url, "no_such_database"), discard)
    sentence = str(raised.value)
    assert sentence.startswith("The database cannot be reached: ")
    assert 'database "no_such_database" does not exist' in sentence
    assert "\n" not in sentence


def test_migrate_fails_without_the_password_when_the_server_stays_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0)
    with pytest.raises(MigrationError) as raised:
        # No service listens on port 1: the connection is refused.
        migrate("postgresql://user:hunter2@127.0.0.1:1/conduit", discard)
    sentence = str(raised.value)
    assert sentence.startswith("The database cannot be reached: ")
    assert "\n" not in sentence
    assert "hunter2" not in sentence


@pytest.mark.parametrize(
    "url",
    ["postgresql://localhost/conduit?no_such_option=1", "postgresql://user:hun%zzter2@localhost/a"],
    ids=["an unknown option", "broken percent signs"],
)
def test_migrate_rejects_a_malformed_url_without_showing_the_password(url: str) -> None:
    with pytest.raises(MigrationError) as raised:
        migrate(url, discard)
    sentence = str(raised.value)
    assert sentence.startswith("DATABASE_URL cannot be used: ")
    assert "\n" not in sentence
    assert "ter2" not in sentence


def test_failed_migration_is_reported_in_one_line_and_rolled_back(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    url = new_database()
    (tmp_path / "0001_good.sql").write_text("create table good (id int)")
    (tmp_path / "0002_bad.sql").write_text("create table half (id int); select * from nowhere")
    monkeypatch.setattr(module, "MIGRATIONS", tmp_path)
    for _ in range(2):
        with pytest.raises(MigrationError) as raised:
            migrate(url, discard)
        assert 'relation "nowhere" does not exist' in str(raised.value)
        assert "\n" not in str(raised.value)
        assert applied_migrations(url) == ["0001_good"]
    created = {row[0] for row in tables(url)}
    assert "good" in created
    assert "half" not in created
    # After a correction, migrate continues with the failed migration.
    (tmp_path / "0002_bad.sql").write_text("create table half (id int)")
    assert migrate(url, discard) == 1


def test_migrate_succeeds_when_the_system_user_has_no_name(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        # Set it before deleting it, so that monkeypatch restores its absence, too.
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)

    def no_such_user(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", no_such_user)
    assert migrate(new_database(), discard) == len(migration_names())
