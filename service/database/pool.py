"""The pool of connections, and what happens when PostgreSQL is away.

A read that meets a lost connection is repeated for a short while, so that a restart of the server
is a pause, not an error. What changes data is repeated only while it surely was never sent.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from aiohttp import web

from sql import Query

CONNECT_TIMEOUT = 5.0  # Seconds to open a connection, and to wait for a free one.
COMMAND_TIMEOUT = 15.0  # Seconds a statement may take.
GAP = 3.0  # Seconds that a lost database is waited for before requests are refused at once.
PAUSE = 0.05  # Seconds between two tries.
PING_TIMEOUT = 2.0

LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What a request sees when PostgreSQL stops, restarts or fails over (seen in tests of asyncpg)."""

NOT_LOST = (asyncpg.QueryCanceledError, asyncpg.DataError)
"""Subclasses of the above that speak of the statement, not of the connection."""


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached now; what was asked of it may or may not have happened."""


async def _keep_as_is(connection: asyncpg.Connection) -> None:
    """No reset at release: no code here leaves session state behind, and it costs a round trip."""


class Database:
    """A bounded pool of connections to one PostgreSQL.

    ``url`` is a libpq connection URL, ``size`` the most connections. Its queries and transactions
    raise ``DatabaseUnavailable`` when PostgreSQL cannot be reached.
    """

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._pool: asyncpg.Pool | None = None
        self._lost_since: float | None = None

    async def open(self) -> None:
        """Make the pool. PostgreSQL may be away: the first request that needs it connects."""
        self._pool = asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._size,
            timeout=CONNECT_TIMEOUT,
            command_timeout=COMMAND_TIMEOUT,
            reset=_keep_as_is,
        )
        await self._pool

    async def close(self) -> None:
        """Wait for running statements, then close every connection."""
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), COMMAND_TIMEOUT)
            except TimeoutError:
                self._pool.terminate()

    async def run(self, query: Query, arguments: list[Any]) -> Any:
        """Carry out ``query`` on a connection of its own; what its header promises comes back."""
        give_up = _now() + GAP
        while True:
            connection = await self._acquire(give_up)
            try:
                result = await getattr(connection, query.method)(query.text, *arguments)
                self._lost_since = None
                return result
            except NOT_LOST:
                raise
            except LOST as error:
                if not query.reads or self._is_over(give_up):
                    raise DatabaseUnavailable from error
            finally:
                await self._release(connection)
            await asyncio.sleep(PAUSE)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection inside a transaction: committed at the end, rolled back on an exception."""
        connection = await self._acquire(_now() + GAP)
        try:
            async with connection.transaction():
                yield connection
            self._lost_since = None
        except NOT_LOST:
            raise
        except LOST as error:
            self._note_loss()
            raise DatabaseUnavailable from error
        finally:
            await self._release(connection)

    async def answers(self) -> bool:
        """Whether PostgreSQL gives a sign of life within two seconds."""
        try:
            async with asyncio.timeout(PING_TIMEOUT):
                connection = await self._open_pool().acquire()
                try:
                    await connection.fetchval("select 1")
                finally:
                    await self._release(connection)
        except LOST:
            return False
        self._lost_since = None
        return True

    async def _acquire(self, give_up: float) -> asyncpg.Connection:
        """A connection; tried again within the gap, since nothing was sent yet."""
        while True:
            try:
                return await self._open_pool().acquire(timeout=CONNECT_TIMEOUT)
            except LOST as error:
                if self._is_over(give_up):
                    raise DatabaseUnavailable from error
            await asyncio.sleep(PAUSE)

    async def _release(self, connection: asyncpg.Connection) -> None:
        try:
            await self._open_pool().release(connection)
        except LOST:
            connection.terminate()

    def _note_loss(self) -> float:
        if self._lost_since is None:
            self._lost_since = _now()
        return self._lost_since

    def _is_over(self, give_up: float) -> bool:
        """Note that the database is away; tell whether this request has waited enough for it.

        In a long outage nobody waits: the gap counts from the first loss that was seen.
        """
        now = _now()
        return now >= give_up or now - self._note_loss() >= GAP

    def _open_pool(self) -> asyncpg.Pool:
        assert self._pool is not None, "the database is used before it was opened"
        return self._pool


def _now() -> float:
    return asyncio.get_running_loop().time()


DATABASE = web.AppKey("database", Database)
