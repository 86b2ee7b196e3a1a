"""At startup, compare the connections that all processes may open with the server's limit."""

import contextlib
import logging

import psycopg

from service.settings.settings import Settings

logger = logging.getLogger(__name__)

BESIDES_POOL = 2  # Per process, beyond DATABASE_POOL_SIZE: the LISTEN and the reserved connection.
CONNECT_TIMEOUT = 5  # Seconds.

# An ordinary user cannot use connections of either reserve. `reserved_connections` exists since
# PostgreSQL 16.
ALLOWED = (
    "select current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int"
    " - coalesce(current_setting('reserved_connections', true), '0')::int"
)


def warn_of_connection_limit(settings: Settings, url: str) -> None:
    """Log one warning when the processes may open more connections than the server allows.

    This is not an error: a pool opens connections on demand, and other clients of the server
    connect and disconnect. Skip the check when the server cannot be reached.
    """
    # A pooler has limits of its own, and only the LISTEN connections go past it.
    is_pooled = settings.database_listen_url is not None
    per_process = 1 if is_pooled else settings.database_pool_size + BESIDES_POOL
    wanted = settings.web_concurrency * per_process
    # The server was reachable a moment ago. If it is not now, the pool handles the outage.
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
