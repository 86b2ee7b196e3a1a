"""Migrate a database to the schema of this version. One process migrates at a time."""

import getpass
import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psycopg
import yoyo
from psycopg.conninfo import conninfo_to_dict

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"

LOCK_KEY = 0x636F6E64756974  # "conduit" in ASCII. Every migrating process takes this advisory lock.
LOCK_TIMEOUT = 600.0  # Seconds to wait while another process migrates.
CONNECT_TIMEOUT = 30.0  # Seconds to wait for a server that is still starting.
# Messages of PostgreSQL and libpq for errors that a retry does not fix.
PERMANENT_ERRORS = (
    "authentication failed",
    "does not exist",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not support SSL",
    "unsupported startup parameter",  # These two are of PgBouncer.
    "no such",
)
MIN_SERVER_VERSION = 150000  # PostgreSQL 15.0, in the format of `server_version_num`.
# The first migration of every database that a commit before the first release made. Those
# migrations have been replaced.
UNRELEASED_MIGRATION = "0001_users"


class MigrationError(Exception):
    """The database cannot be migrated. The message is one sentence for the operator."""

    exit_status = 1


def migrate(url: str, report: Callable[[str], None]) -> int:
    """Apply every migration that the database at ``url`` lacks and return their number.

    Several processes may call this simultaneously: one migrates, the others wait. Call ``report``
    with a message before each slow step. Raise ``MigrationError`` when the database cannot be
    reached or migrated.
    """
    # yoyo records the name of the system user, and reads it only after it has committed the first
    # migration. If the user has no name, that would fail too late: use the user id instead.
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())
    try:
        return _migrate(url, report)
    except (psycopg.Error, yoyo.exceptions.BadMigration) as error:
        # yoyo cleans up after an interruption. An error in that cleanup hides the interruption.
        if _is_interruption(error):
            raise KeyboardInterrupt from error
        raise MigrationError(f"The database cannot be migrated: {first_line(error)}") from error


def _migrate(url: str, report: Callable[[str], None]) -> int:
    with connect_when_ready(url, report) as connection:
        version = connection.info.server_version
        if version < MIN_SERVER_VERSION:
            raise MigrationError(
                f"PostgreSQL {version // 10000} is too old: 15 or newer is needed."
            )
        _require_utf8(connection)
        _require_create_privilege(connection)
        _lock(connection, report)
        # The connection holds the advisory lock, so PostgreSQL releases it if the process dies.
        # yoyo's own lock is a row, which would remain. Breaking it is safe: while this process
        # holds the advisory lock, no other process migrates.
        with yoyo.get_backend(_yoyo_url(connection)) as backend:
            backend.break_lock()
            with backend.lock():
                known = yoyo.read_migrations(str(MIGRATIONS))
                pending = backend.to_apply(known)  # Creates yoyo's tables if they are missing.
                _reject_unknown(connection, [migration.id for migration in known])
                for migration in pending:
                    report(f"Migrating the database: {migration.id}")
                    _apply(backend, migration)
                return len(pending)


def _apply(backend: yoyo.backends.DatabaseBackend, migration: yoyo.migrations.Migration) -> None:
    # yoyo itself commits a migration first and records it afterwards. A process that is killed in
    # between leaves a database that no later start can migrate. Here one transaction does both.
    migration.load()
    if not migration.use_transactions:  # Such a file must be idempotent.
        backend.apply_one(migration)
        return
    with backend.transaction():
        migration.process_steps(backend, "apply")
        backend.log_migration(migration, "apply")
        backend.mark_one(migration, log=False)


def connect_when_ready(url: str, report: Callable[[str], None]) -> psycopg.Connection:
    """Connect in autocommit mode, and wait for a server that is still starting.

    Raise ``MigrationError`` if it cannot be reached.
    """
    deadline = time.monotonic() + CONNECT_TIMEOUT
    is_reported = False
    while True:
        try:
            return psycopg.connect(
                url, autocommit=True, connect_timeout=5, target_session_attrs="read-write"
            )
        except psycopg.ProgrammingError as error:
            # libpq quotes the part of the URL that it cannot decode, which may be the password.
            reason = first_line(error).partition('token: "')[0]
            raise MigrationError(f"DATABASE_URL cannot be used: {reason}") from error
        except psycopg.OperationalError as error:
            is_permanent = any(words in str(error) for words in PERMANENT_ERRORS)
            if is_permanent or time.monotonic() > deadline:
                raise MigrationError(
                    f"The database cannot be reached: {first_line(error)}"
                ) from error
            if not is_reported:
                report("Waiting for the database to accept connections ...")
                is_reported = True
            time.sleep(0.25)


def _require_utf8(connection: psycopg.Connection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name = connection.info.dbname
        raise MigrationError(
            f"The database {name} has the encoding {encoding}, but UTF8 is needed: create it with"
            " ENCODING 'UTF8' TEMPLATE template0."
        )


def _require_create_privilege(connection: psycopg.Connection) -> None:
    # If yoyo may not create its tables, it hides the error and fails later, at the first use of a
    # table.
    row = connection.execute(
        "select to_regclass('yoyo_lock') is not null"
        " or coalesce(has_schema_privilege(current_schema(), 'create'), false)"
    ).fetchone()
    if row is None or not row[0]:
        user, name = connection.info.user, connection.info.dbname
        raise MigrationError(
            f"User {user} may not create tables in the schema public of database {name}:"
            f" GRANT CREATE ON SCHEMA public TO {user} there, or make {user} its owner."
        )


def _reject_unknown(connection: psycopg.Connection, known: list[str]) -> None:
    """Raise ``MigrationError`` if the database has a migration that is not in ``known``.

    Another version may have changed any table. The queries of this version could then fail or
    damage data.
    """
    rows = connection.execute(
        "select migration_id from _yoyo_migration where migration_id <> all(%s)"
        " order by migration_id desc",
        (known,),
    ).fetchall()
    unknown = [row[0] for row in rows]
    if UNRELEASED_MIGRATION in unknown:
        raise MigrationError(
            "The database was made by an earlier, unreleased commit of this service: drop it and"
            " create it anew, or remove the folder DATA_DIR (.data) if it is the embedded one."
        )
    if unknown:
        raise MigrationError(
            f"The database belongs to a newer version of this service, which applied {unknown[0]}:"
            " run that version, or restore a backup from before it."
        )


def _lock(connection: psycopg.Connection, report: Callable[[str], None]) -> None:
    # Poll the lock instead of waiting for it in a statement: a waiting statement holds a snapshot,
    # and `create index concurrently` in the other process would wait for that snapshot.
    deadline = time.monotonic() + LOCK_TIMEOUT
    is_reported = False
    while True:
        row = connection.execute("select pg_try_advisory_lock(%s)", (LOCK_KEY,)).fetchone()
        if row is not None and row[0]:
            return
        if time.monotonic() > deadline:
            raise MigrationError("Another process has been migrating the database for 10 minutes.")
        if not is_reported:
            report("Waiting for another process that migrates the database ...")
            is_reported = True
        time.sleep(0.1)


def _yoyo_url(connection: psycopg.Connection) -> str:
    """Return the URL of the one server that ``connection`` reached.

    yoyo rejects a URL that lists several hosts.
    """
    info = connection.info
    options = conninfo_to_dict(info.dsn)
    options["password"] = info.password
    options["host"], options["port"] = info.host, info.port
    account = quote(info.user, safe="")
    kept = {
        name: value
        for name, value in options.items()
        if value and name not in ("user", "dbname", "target_session_attrs", "hostaddr")
    }
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in kept.items())
    return f"postgresql+psycopg://{account}@/{quote(info.dbname, safe='')}?{query}"


def _is_interruption(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def first_line(error: Exception) -> str:
    """Return the message of PostgreSQL in ``error``, without its details."""
    message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error).strip()
    first = message.partition("\n")[0].removeprefix("connection failed: ")
    return first or type(error).__name__
