"""At startup, find out whether the database URLs fit a connection pooler in between.

A pooler in transaction mode, such as PgBouncer, gives each transaction another connection to
PostgreSQL. LISTEN and the lock of the migrations need one connection for themselves, so they need a
URL past the pooler. ``docs/decisions/pooler.md`` lists what needs it.
"""

import secrets
from collections.abc import Callable

import psycopg
from psycopg import pq, sql

from service.database.migrate import MigrationError, connect_when_ready, first_line
from service.settings.settings import Settings

NOTIFICATION_TIMEOUT = 3.0  # Seconds. PostgreSQL delivers within milliseconds of the commit.
CONNECT_TIMEOUT = 5  # Seconds.
PROBE = b"select 'probe of the prepared statements of a pooler'"


class PoolerError(MigrationError):
    """A database URL leads through a pooler that does not fit. The message is one sentence."""


def check_pooler(settings: Settings, report: Callable[[str], None]) -> None:
    """Check ``DATABASE_URL``, ``DATABASE_LISTEN_URL`` and ``DATABASE_PREPARED_STATEMENTS``.

    Do nothing with the embedded server. Raise ``PoolerError`` if no notification arrives, or if the
    pooler does not support prepared statements and they are enabled. Raise ``MigrationError`` if
    PostgreSQL cannot be reached.
    """
    url, listen_url = settings.database_url, settings.database_listen_url
    if url is None:
        return
    must_prepare = listen_url is not None and settings.database_prepared_statements
    try:
        with (
            connect_when_ready(listen_url or url, report) as listening,
            connect_when_ready(url, report) as connection,
        ):
            if not _is_notified(listening, connection):
                raise PoolerError(_unheard(listen_url))
            if must_prepare and not _can_prepare(connection):
                raise PoolerError(
                    "The pooler of DATABASE_URL does not support prepared statements: set"
                    " DATABASE_PREPARED_STATEMENTS=false, or max_prepared_statements in PgBouncer"
                    " 1.21 or newer."
                )
    except psycopg.Error as error:
        raise PoolerError(f"The database cannot be used: {first_line(error)}") from error


def supports_prepared_statements(url: str) -> bool:
    """Return whether statements can be prepared at ``url``. Raise ``psycopg.Error``."""
    with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT) as connection:
        return _can_prepare(connection)


def _unheard(listen_url: str | None) -> str:
    if listen_url is None:
        return (
            "LISTEN through DATABASE_URL receives no notifications, as behind a pooler in"
            " transaction mode: set DATABASE_LISTEN_URL to the URL of PostgreSQL itself."
        )
    return (
        "LISTEN through DATABASE_LISTEN_URL receives no notifications of DATABASE_URL: it must be"
        " the URL of the same database, without a pooler in transaction mode."
    )


def _is_notified(listening: psycopg.Connection, connection: psycopg.Connection) -> bool:
    """Return whether ``listening`` receives a notification that ``connection`` sends."""
    channel = f"pooler_check_{secrets.token_hex(8)}"
    listening.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
    connection.execute("select pg_notify(%s, '')", (channel,))
    return any(True for _ in listening.notifies(timeout=NOTIFICATION_TIMEOUT, stop_after=1))


def _can_prepare(connection: psycopg.Connection) -> bool:
    """Return whether a statement can be prepared now and executed in a later transaction.

    A pooler that supports this renames the statements, because its clients use the same names. A
    pooler, in turn, is known by the process id that it sends, which is not that of the server.
    """
    name = f"pooler_check_{secrets.token_hex(8)}"
    with connection.transaction():  # All on one connection to PostgreSQL.
        row = connection.execute("select pg_backend_pid()").fetchone()
        if row is not None and row[0] == connection.info.backend_pid:
            return True
        prepared = connection.pgconn.prepare(name.encode(), PROBE)
        if prepared.status != pq.ExecStatus.COMMAND_OK:
            return False
        is_renamed = (
            connection.execute(
                "select from pg_prepared_statements where name = %s", (name,)
            ).fetchone()
            is None
        )
        if not is_renamed:
            # The connection to PostgreSQL remains open for other clients.
            connection.execute(sql.SQL("deallocate {}").format(sql.Identifier(name)))
        return is_renamed
