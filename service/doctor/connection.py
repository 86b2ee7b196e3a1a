"""Connect to the database for a check, and say in plain words why that fails."""

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from service.database.dsn import url_for_asyncpg
from service.database.pool import CONNECT_TIMEOUT

NOT_RUNNING = "the embedded PostgreSQL does not run here"


class CannotConnect(Exception):
    """The database cannot be reached. ``action`` says what to do."""

    def __init__(self, reason: str, action: str) -> None:
        super().__init__(reason)
        self.action = action


@asynccontextmanager
async def connect(url: str, setting: str = "DATABASE_URL") -> AsyncIterator[asyncpg.Connection]:
    """Open a connection as the service does, and close it at the end.

    ``setting`` is where the operator corrects ``url``.
    Raise ``CannotConnect``, also when a statement fails. No statement is kept prepared, so that the
    connection also works through a pooler.
    """
    try:
        connection = await asyncpg.connect(
            url_for_asyncpg(url),
            timeout=CONNECT_TIMEOUT,
            command_timeout=CONNECT_TIMEOUT,
            statement_cache_size=0,
            server_settings={"application_name": "doctor"},
        )
    except Exception as error:
        raise _explain(error, setting) from error
    try:
        yield connection
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        reason = type(error).__name__
        message = f"PostgreSQL does not run the queries of this check: {reason}"
        raise CannotConnect(message, "look into its log") from error
    finally:
        # A graceful end would wait for a server that does not respond.
        connection.terminate()


def _explain(error: Exception, setting: str) -> CannotConnect:
    """Return the reason of an error at connecting, which quotes no part of the URL."""
    match error:
        case asyncpg.InvalidAuthorizationSpecificationError():
            reason, action = "it rejects the user or the password", f"correct {setting}"
        case asyncpg.InvalidCatalogNameError():
            reason, action = "it has no such database", f"create it, or correct {setting}"
        case asyncpg.TooManyConnectionsError():
            reason = "it has no free connection"
            action = "lower WEB_CONCURRENCY or DATABASE_POOL_SIZE, or raise max_connections"
        case asyncpg.CannotConnectNowError():
            reason, action = "it is starting or stopping", "wait, then look into its log"
        case asyncpg.TargetServerAttributeNotMatched():
            reason = "none of its hosts accepts writes"
            action = f"promote a replica, or correct the hosts in {setting}"
        case asyncpg.PostgresError():
            reason = f"it rejects the connection (SQLSTATE {error.sqlstate})"
            action = "look into its log"
        case asyncpg.InterfaceError() | asyncpg.InternalClientError() | ValueError():
            reason, action = "the URL cannot be used", f"correct {setting}"
        case ssl.SSLError():
            reason, action = "TLS fails", f"check its certificate and sslmode in {setting}"
        case socket.gaierror():
            reason, action = "its host is unknown", f"correct {setting}, or check the DNS"
        case TimeoutError():
            reason = f"it does not respond within {CONNECT_TIMEOUT:g} seconds"
            action = f"check the host and the port in {setting}, the network and its firewall"
        case OSError():
            # asyncpg raises errors without a number when a server closes the connection.
            reason = os.strerror(error.errno) if error.errno else "it closes the connection"
            action = f"check that it runs, its TLS, and the host and the port in {setting}"
        case _:
            reason, action = f"{type(error).__name__}", "report it"
    return CannotConnect(f"PostgreSQL cannot be reached: {reason}", action)
