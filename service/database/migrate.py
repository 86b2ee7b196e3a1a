"""Bring a database to the schema of this version, one process at a time."""

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

LOCK = 0x636F6E64756974  # "conduit": one advisory lock for every process that migrates.
LOCK_TIMEOUT = 600.0  # Seconds to wait for another process that migrates.
CONNECT_TIMEOUT = 30.0  # Seconds to wait for a server that is still starting.
OLDEST_VERSION = 150000  # As PostgreSQL counts: 15.0.


class MigrationError(Exception):
    """The database cannot be migrated; the message is one sentence for the operator."""


def migrate(url: str, report: Callable[[str], None]) -> int:
    """Apply every migration that ``url`` lacks and return how many those were.

    Safe to call from several processes at once: one migrates, the rest wait. ``report`` is told
    about whatever takes its time. Raises ``MigrationError``.
    """
    # yoyo writes who migrated, and asks only after the first migration was committed.
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())
    with _connect(url, report) as connection:
        version = connection.info.server_version
        if version < OLDEST_VERSION:
            raise MigrationError(
                f"PostgreSQL {version // 10000} is too old: 15 or newer is needed."
            )
        _lock(connection, report)
        # The connection holds the lock, and whoever dies gives it back; yoyo's own lock, a row,
        # would stay behind. It is ours to break, since nobody else can be migrating now.
        with yoyo.get_backend(_yoyo_url(connection)) as backend:
            backend.break_lock()
            with backend.lock():
                waiting = backend.to_apply(yoyo.read_migrations(str(MIGRATIONS)))
                for migration in waiting:
                    report(f"Migrating the database: {migration.id}")
                try:
                    backend.apply_migrations(waiting)
                except psycopg.Error as error:
                    raise MigrationError(f"A migration failed: {_sentence(error)}") from error
                return len(waiting)


def _connect(url: str, report: Callable[[str], None]) -> psycopg.Connection:
    deadline = time.monotonic() + CONNECT_TIMEOUT
    told = False
    while True:
        try:
            return psycopg.connect(
                url, autocommit=True, connect_timeout=5, target_session_attrs="read-write"
            )
        except psycopg.OperationalError as error:
            # A wrong password or database does not get better by waiting.
            wrong = "authentication failed" in str(error) or "does not exist" in str(error)
            if wrong or time.monotonic() > deadline:
                sentence = f"The database cannot be reached: {_sentence(error)}"
                raise MigrationError(sentence) from error
            if not told:
                report("Waiting for the database to answer ...")
                told = True
            time.sleep(0.25)


def _lock(connection: psycopg.Connection, report: Callable[[str], None]) -> None:
    # Asked for again and again rather than waited for: a waiting statement holds a snapshot, on
    # which `create index concurrently` in the other process would wait in turn.
    deadline = time.monotonic() + LOCK_TIMEOUT
    told = False
    while True:
        row = connection.execute("select pg_try_advisory_lock(%s)", (LOCK,)).fetchone()
        if row is not None and row[0]:
            return
        if time.monotonic() > deadline:
            raise MigrationError("Another process has been migrating for ten minutes; gave up.")
        if not told:
            report("Waiting for another process that migrates the database ...")
            told = True
        time.sleep(0.1)


def _yoyo_url(connection: psycopg.Connection) -> str:
    """The server that ``connection`` reached, for yoyo, which refuses URLs of several hosts."""
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


def _sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
