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

from service.accounts import fields
from service.database import migrate as module
from service.database.migrate import MIGRATIONS, MigrationError, migrate
from tests.conftest import url_of

NewDatabase = Callable[[], str]

# Everything that a migration makes, as PostgreSQL itself would write it down again.
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
    """Everything in the database but the tables that yoyo keeps for itself."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(SCHEMA).fetchall()
    return [row for row in rows if "yoyo" not in str(row)]


def names() -> list[str]:
    return sorted(
        path.name.removesuffix(".sql")
        for path in MIGRATIONS.glob("*.sql")
        if not path.name.endswith(".rollback.sql")
    )


def applied(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        query = "select migration_id from _yoyo_migration order by migration_id"
        return [row[0] for row in connection.execute(query)]


@contextmanager
def yoyo_on(url: str) -> Iterator[Any]:
    """yoyo's own hands on the database; the service itself never goes down."""
    with psycopg.connect(url) as connection:
        backend_url = module._yoyo_url(connection)
    with yoyo.get_backend(backend_url) as backend:
        yield backend


def silent(_: str) -> None:
    """Take a report that nobody reads."""


def test_every_migration_has_a_way_back() -> None:
    rollbacks = {
        path.name.removesuffix(".rollback.sql") for path in MIGRATIONS.glob("*.rollback.sql")
    }
    assert rollbacks == set(names())
    for path in MIGRATIONS.glob("*.sql"):
        assert path.read_text(encoding="utf-8").strip()


def test_the_numbers_of_the_migrations_run_on() -> None:
    numbers = [name.partition("_")[0] for name in names()]
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]


def test_every_migration_goes_up_down_and_up_again(new_database: NewDatabase) -> None:
    url = new_database()
    migrations = yoyo.read_migrations(str(MIGRATIONS))
    with yoyo_on(url) as backend:
        for migration in backend.to_apply(migrations):
            before = schema_of(url)
            backend.apply_one(migration)
            after = schema_of(url)
            assert after != before, f"{migration.id} changes nothing"
            backend.rollback_one(migration)
            assert schema_of(url) == before, f"the rollback of {migration.id} leaves something"
            backend.apply_one(migration)
            assert schema_of(url) == after, f"{migration.id} comes back different"


def test_all_migrations_go_down_to_nothing_and_up_again(new_database: NewDatabase) -> None:
    url = new_database()
    nothing = schema_of(url)
    assert migrate(url, silent) == len(names())
    everything = schema_of(url)
    with yoyo_on(url) as backend:
        backend.rollback_migrations(backend.to_rollback(yoyo.read_migrations(str(MIGRATIONS))))
    assert schema_of(url) == nothing
    assert migrate(url, silent) == len(names())
    assert schema_of(url) == everything


def test_email_keys_made_by_folding_become_those_of_the_service(new_database: NewDatabase) -> None:
    """The migration needs no IDNA: the emails hold their domains as the service has them."""
    url = new_database()
    emails = ("ann@straße.de", '"A@b"@faß.de', "José@βόλος.com", "Bob@bücher.test", "eve@x.test")
    folded = [(fields.uniqueness_key(email),) for email in emails]
    keys = "select email_key from users order by username_key"
    migrations = yoyo.read_migrations(str(MIGRATIONS))
    with yoyo_on(url) as backend, psycopg.connect(url, autocommit=True) as connection:
        for migration in backend.to_apply(migrations):
            if migration.id != "0012_lease_and_email_keys":
                backend.apply_one(migration)
                continue
            for number, email in enumerate(emails):
                connection.execute(
                    "insert into users (username, username_key, email, email_key, password_hash)"
                    " values (%s, %s, %s, %s, '')",
                    (f"user{number}", f"user{number}", email, folded[number][0]),
                )
            backend.apply_one(migration)
            assert connection.execute(keys).fetchall() == [
                (fields.email_key(email),) for email in emails
            ]
            backend.rollback_one(migration)
            assert connection.execute(keys).fetchall() == folded
            backend.apply_one(migration)


def test_closed_accounts_go_with_their_content_when_their_migration_is_rolled_back(
    new_database: NewDatabase,
) -> None:
    url = new_database()
    migrate(url, silent)
    with psycopg.connect(url) as connection:
        connection.execute(
            """
            with closed as (insert into users (closed_at) values (now()) returning id)
            insert into articles (author_id, slug, title, description, body, tag_list)
            select id, 'left', '', '', '', '{a}' from closed
            """
        )
    with yoyo_on(url) as backend:
        # This migration and what was built on it.
        for migration in backend.to_rollback(yoyo.read_migrations(str(MIGRATIONS))):
            backend.rollback_one(migration)
            if migration.id.endswith("_closed_accounts"):
                break
    with psycopg.connect(url) as connection:
        for table in ("users", "articles", "article_tags"):
            query = psycopg.sql.SQL("select count(*) from {}").format(psycopg.sql.Identifier(table))
            assert connection.execute(query).fetchone() == (0,)
    assert migrate(url, silent) > 0


def test_a_second_migration_finds_nothing_to_do(new_database: NewDatabase) -> None:
    url = new_database()
    told: list[str] = []
    assert migrate(url, told.append) == len(names())
    assert told == [f"Migrating the database: {name}" for name in names()]
    assert applied(url) == names()
    schema = schema_of(url)
    assert migrate(url, told.append) == 0
    assert len(told) == len(names())
    assert schema_of(url) == schema


def test_of_several_that_migrate_at_once_one_does(new_database: NewDatabase) -> None:
    url = new_database()
    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(lambda _: migrate(url, silent), range(4)))
    assert sorted(counts) == [0, 0, 0, len(names())]
    assert applied(url) == names()


MIGRATE = (
    "import sys; from service.database.migrate import migrate; print(migrate(sys.argv[1], id))"
)


def test_of_several_processes_that_migrate_at_once_one_does(new_database: NewDatabase) -> None:
    url = new_database()
    command = [sys.executable, "-c", MIGRATE, url]
    processes = [
        subprocess.Popen(command, cwd=MIGRATIONS.parent, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = [process.communicate()[0].strip() for process in processes]
    assert sorted(told) == ["0", "0", str(len(names()))]
    assert [process.returncode for process in processes] == [0, 0, 0]


def test_a_lock_that_yoyo_left_behind_holds_up_nobody(new_database: NewDatabase) -> None:
    url = new_database()
    with yoyo_on(url) as backend, backend.lock():
        pass  # Makes the table of locks.
    with psycopg.connect(url) as connection:
        # That of a process that was killed while it migrated; its number may be another's by now.
        connection.execute(
            "insert into yoyo_lock (locked, ctime, pid) values (1, now(), %s)", (os.getpid(),)
        )
    assert migrate(url, silent) == len(names())
    assert migrate(url, silent) == 0


def test_whoever_migrates_is_waited_for(new_database: NewDatabase) -> None:
    url = new_database()
    told: list[str] = []

    def give_way(sentence: str) -> None:
        told.append(sentence)
        if sentence == WAITING:
            assert applied_tables(url) == []
            other.execute("select pg_advisory_unlock(%s)", (module.LOCK,))

    with psycopg.connect(url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s)", (module.LOCK,))
        assert migrate(url, give_way) == len(names())
    assert told[0] == WAITING


WAITING = "Waiting for another process that migrates the database ..."


def applied_tables(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select tablename from pg_tables where schemaname = 'public'"
        ).fetchall()


def test_a_database_that_does_not_exist_is_told_at_once(server_url: str) -> None:
    with pytest.raises(MigrationError) as refused:
        migrate(url_of(server_url, "no_such_database"), silent)
    sentence = str(refused.value)
    assert sentence.startswith("The database cannot be reached: ")
    assert 'database "no_such_database" does not exist' in sentence
    assert "\n" not in sentence


def test_a_server_that_is_away_is_waited_for_and_then_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0)
    told: list[str] = []
    with pytest.raises(MigrationError) as refused:
        # Port 1 belongs to a service that nobody runs: the connection is refused.
        migrate("postgresql://user:hunter2@127.0.0.1:1/conduit", told.append)
    sentence = str(refused.value)
    assert sentence.startswith("The database cannot be reached: ")
    assert "\n" not in sentence
    assert "hunter2" not in sentence


@pytest.mark.parametrize(
    "url",
    ["postgresql://localhost/conduit?no_such_option=1", "postgresql://user:hun%zzter2@localhost/a"],
    ids=["an unknown option", "broken percent signs"],
)
def test_a_url_that_cannot_be_read_is_told(url: str) -> None:
    with pytest.raises(MigrationError) as refused:
        migrate(url, silent)
    sentence = str(refused.value)
    assert sentence.startswith("DATABASE_URL cannot be used: ")
    assert "\n" not in sentence
    assert "ter2" not in sentence


def test_a_migration_that_fails_is_told_in_one_sentence_and_leaves_nothing(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    url = new_database()
    (tmp_path / "0001_good.sql").write_text("create table good (id int)")
    (tmp_path / "0002_bad.sql").write_text("create table half (id int); select * from nowhere")
    monkeypatch.setattr(module, "MIGRATIONS", tmp_path)
    for _ in range(2):
        with pytest.raises(MigrationError) as refused:
            migrate(url, silent)
        assert 'relation "nowhere" does not exist' in str(refused.value)
        assert "\n" not in str(refused.value)
        assert applied(url) == ["0001_good"]
    tables = {row[0] for row in applied_tables(url)}
    assert "good" in tables
    assert "half" not in tables
    # Mended, it goes on where it stopped.
    (tmp_path / "0002_bad.sql").write_text("create table half (id int)")
    assert migrate(url, silent) == 1


def test_a_user_without_a_name_can_migrate(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        # Set before it is deleted, so that it is put back as it was, also where it was not.
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)

    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert migrate(new_database(), silent) == len(names())
