"""Compare, at start, the connections that the processes may open with those the server allows."""

import contextlib
import logging

import psycopg

from service.settings.settings import Settings

logger = logging.getLogger(__name__)

BESIDES_POOL = 2  # Connections of a process besides its pool: one that listens, and a spare one.
CONNECT_TIMEOUT = 5  # Seconds.

# Reserved for others than ordinary users; `reserved_connections` is there from PostgreSQL 16 on.
ALLOWED = (
    "select current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int"
    " - coalesce(current_setting('reserved_connections', true), '0')::int"
)


def warn_of_connection_limit(settings: Settings, url: str) -> None:
    """Log one warning when the processes may want more connections than the server allows.

    It is no error: pools open connections as they need them, and other clients of the server may
    come and go.
    """
    wanted = settings.web_concurrency * (settings.database_pool_size + BESIDES_POOL)
    # A server that is away now was there a moment ago: the pool deals with that.
    with contextlib.suppress(psycopg.Error), _connect(url) as connection:
        row = connection.execute(ALLOWED).fetchone()
        if row is not None and wanted > row[0]:
            logger.warning(
                "more connections than the server allows: wanted=%d allowed=%d; lower"
                " WEB_CONCURRENCY or DATABASE_POOL_SIZE, or raise max_connections",
                wanted,
                row[0],
            )


def _connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT, target_session_attrs="read-write")
