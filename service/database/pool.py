"""Run queries and transactions on a bounded pool of connections.

A read that fails with a lost connection is retried for a short time, so that a restart of the
server causes a delay and not an error. A query that may change data is retried only before it is
sent. ``circuit_breaker`` decides when requests no longer retry.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
from aiohttp import web

from service.database import circuit_breaker
from service.database.circuit_breaker import CircuitBreaker, DatabaseUnavailable
from service.database.connection_pool import ConnectionPool
from service.database.dsn import url_for_asyncpg
from sql import Query, Runner

_Result = TypeVar("_Result")

CONNECT_TIMEOUT = 5.0  # Seconds to open a connection, and to wait for a free one.
COMMAND_TIMEOUT = 15.0  # Seconds a statement may take.
RETRY_DELAY = 0.05  # Seconds between two attempts.
PING_TIMEOUT = 2.0  # Seconds for the response to a ping.
CLOSE_TIMEOUT = 2.0  # Seconds that running statements get when the service stops.

CONNECTION_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""The errors of asyncpg when PostgreSQL stops, restarts or fails over (found in tests)."""

QUERY_CANCELED = asyncpg.QueryCanceledError
"""A subclass of one of the errors above that concerns the statement, not the connection."""

CONNECT_ERRORS = (*CONNECTION_ERRORS, asyncpg.PostgresError)
"""The errors of opening a connection.

A rejected connection, as after a change of the password, is also an outage.
"""

CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""PostgreSQL rolled back the transaction so that another can continue. A retry may succeed."""


async def _skip_reset(connection: asyncpg.Connection) -> None:
    """Skip the reset at release: no code here leaves session state, and a reset is a round trip."""


async def _init_connection(connection: asyncpg.Connection) -> None:
    """Apply the settings of a new connection.

    Every statement of this service is written so that one generic plan fits every call. By default
    PostgreSQL plans some statements again at each call, which takes longer than running them. The
    settings are applied by a statement because a pooler rejects startup parameters that it does
    not know. Behind a pooler in transaction mode they would reach the connection of one transaction
    and stay there for other clients: its configuration applies them (``docs/operations.md``).
    """
    settings = "set plan_cache_mode = force_generic_plan; set jit = off"
    try:
        await connection.execute(settings, timeout=CONNECT_TIMEOUT)
    except BaseException:
        # asyncpg would close it gracefully, and hang when the server does not respond.
        connection.terminate()
        raise


class Database:
    """A bounded pool of connections to one PostgreSQL.

    ``url`` is a libpq connection URL. ``size`` is the maximum number of connections, without the
    reserved one. Queries and transactions raise ``DatabaseUnavailable`` when PostgreSQL cannot be
    reached. They raise ``CancelledError`` when they had to wait for a connection and
    ``is_abandoned`` then returns that the client has disconnected.
    """

    def __init__(
        self,
        url: str,
        size: int,
        is_abandoned: Callable[[], bool] = lambda: False,
        *,
        pooled: bool = False,
        prepared_statements: bool = True,
    ) -> None:
        """With ``pooled``, ``url`` may lead through a pooler in transaction mode.

        Without ``prepared_statements`` every call parses its statement again, which an older pooler
        needs.
        """
        self._url = url
        self._pooled = pooled
        self._prepared_statements = prepared_statements
        self._size = size
        self._is_abandoned = is_abandoned
        self._pool: ConnectionPool | None = None
        # Queue here in FIFO order. asyncpg's pool is not FIFO: a new caller can take a connection
        # that was released for a waiter, and the waiter goes to the end of the queue.
        self._slots = asyncio.Semaphore(size)
        self._reserved_slot = asyncio.Semaphore(1)
        self._breaker = CircuitBreaker()
        self._ping: asyncio.Task[bool] | None = None

    @property
    def size(self) -> int:
        """Return the maximum number of connections, without the reserved one."""
        return self._size

    @property
    def in_use(self) -> int:
        """Return how many connections statements and transactions use now."""
        return self._size - self._slots._value

    @property
    def waiting(self) -> int:
        """Return how many statements and transactions wait for a connection."""
        return sum(not waiter.done() for waiter in self._slots._waiters or ())

    async def open(self) -> None:
        """Create the pool without connecting: PostgreSQL may be down. The first query connects."""
        options = {} if self._prepared_statements else {"statement_cache_size": 0}
        pool = asyncpg.create_pool(
            url_for_asyncpg(self._url),
            min_size=0,
            max_size=self._size + 1,  # Plus the reserved one.
            timeout=CONNECT_TIMEOUT,
            command_timeout=COMMAND_TIMEOUT,
            init=None if self._pooled else _init_connection,
            reset=_skip_reset,
            **options,
        )
        self._pool = ConnectionPool(await pool)

    async def close(self) -> None:
        """Wait up to ``CLOSE_TIMEOUT`` for running statements, then close every connection."""
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), CLOSE_TIMEOUT)
            except CONNECTION_ERRORS:
                self._pool.terminate()

    async def run(self, query: Query, arguments: list[Any]) -> Any:
        """Run ``query`` on a connection of its own and return what its header declares.

        Retry once after a deadlock or a serialization failure.
        """
        return await _retry_after_conflict(lambda: self._run(query, arguments, self._slots))

    @property
    def reserved(self) -> Runner:
        """Return a runner on the reserved connection, for queries that must not wait in a queue.

        ``docs/decisions/cache-and-heartbeats.md`` says why there is one.
        """
        return _Reserved(self)

    async def _run(self, query: Query, arguments: list[Any], slots: asyncio.Semaphore) -> Any:
        deadline = time.monotonic() + circuit_breaker.RETRY_WINDOW
        while True:
            connection = await self._acquire_with_retries(deadline, slots)
            is_clean = False
            try:
                result = await getattr(connection, query.method)(query.text, *arguments)
                is_clean = True
                self._breaker.note_success()
                return result
            except QUERY_CANCELED:
                raise
            except CONNECTION_ERRORS as error:
                _discard(connection)
                if self._should_give_up(deadline, error) or not query.is_read_only:
                    raise DatabaseUnavailable from error
            finally:
                await self._release(connection, slots, is_clean=is_clean)
            await asyncio.sleep(RETRY_DELAY)

    async def transact(self, work: Callable[[asyncpg.Connection], Awaitable[_Result]]) -> _Result:
        """Run ``work`` in a transaction and return its result.

        Commit when ``work`` returns, roll back when it raises. After a deadlock or a serialization
        failure ``work`` runs a second time: it must have no effect that a rollback does not undo.
        """
        return await _retry_after_conflict(lambda: self._transact(work))

    async def _transact(self, work: Callable[[asyncpg.Connection], Awaitable[_Result]]) -> _Result:
        deadline = time.monotonic() + circuit_breaker.RETRY_WINDOW
        connection = await self._acquire_with_retries(deadline, self._slots)
        is_clean = False
        try:
            async with connection.transaction():
                result = await work(connection)
            is_clean = True
            self._breaker.note_success()
            return result
        except QUERY_CANCELED:
            raise
        except CONNECTION_ERRORS as error:
            _discard(connection)
            self._breaker.note_loss(error)
            raise DatabaseUnavailable from error
        finally:
            await self._release(connection, self._slots, is_clean=is_clean)

    async def ping(self) -> bool:
        """Return whether PostgreSQL responds within ``PING_TIMEOUT`` seconds."""
        # Simultaneous callers share one ping, so that a flood of calls does not delay heartbeats.
        if self._ping is None or self._ping.done():
            self._ping = asyncio.create_task(self._send_ping())
        # After its timeout a ping may still be closing its connection. No caller waits for that.
        done, _ = await asyncio.wait({self._ping}, timeout=PING_TIMEOUT)
        return bool(done) and await self._ping

    async def _send_ping(self) -> bool:
        # Use the reserved connection: a pool full of slow statements is not an outage.
        try:
            async with asyncio.timeout(PING_TIMEOUT):
                connection = await self._acquire(self._reserved_slot)
                try:
                    await connection.fetchval("select 1")
                except BaseException:
                    _discard(connection)
                    raise
                finally:
                    await self._release(connection, self._reserved_slot)
        except CONNECT_ERRORS as error:
            self._breaker.note_loss(error)
            return False
        self._breaker.note_success()
        return True

    async def _acquire_with_retries(
        self, deadline: float, slots: asyncio.Semaphore
    ) -> asyncpg.Connection:
        """Acquire a connection. Retrying until ``deadline`` is safe: nothing has been sent yet."""
        while True:
            try:
                with self._breaker.attempt():
                    return await self._acquire(slots)
            except CONNECT_ERRORS as error:
                if self._should_give_up(deadline, error):
                    raise DatabaseUnavailable from error
            await asyncio.sleep(RETRY_DELAY)

    async def _acquire(self, slots: asyncio.Semaphore) -> asyncpg.Connection:
        """Acquire a connection in FIFO order.

        Raise ``TimeoutError`` after ``CONNECT_TIMEOUT`` seconds in the queue. Raise
        ``CancelledError`` when the client disconnected while its request was in the queue.
        """
        if slots.locked():
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await slots.acquire()
            # A client that sends, resets and sends again must not fill the queue: the number of
            # clients is bounded, the number of requests that they abandon is not. Check only here,
            # before a statement runs: asyncpg needs another connection to cancel a statement.
            if self._is_abandoned():
                slots.release()
                raise asyncio.CancelledError("the client is gone")
        else:
            await slots.acquire()
        try:
            return await self._opened_pool().acquire()
        except BaseException:
            slots.release()
            raise

    async def _release(
        self, connection: asyncpg.Connection, slots: asyncio.Semaphore, *, is_clean: bool = False
    ) -> None:
        try:
            await self._opened_pool().release(connection, is_clean=is_clean)
        except CONNECTION_ERRORS:
            _discard(connection)
        finally:
            slots.release()

    def _should_give_up(self, deadline: float, error: BaseException) -> bool:
        """Note that the database is lost, and return whether this request must stop retrying."""
        self._breaker.note_loss(error)
        return time.monotonic() >= deadline or self._breaker.is_open()

    def _opened_pool(self) -> ConnectionPool:
        assert self._pool is not None, "the database is used before it was opened"
        return self._pool


class _Reserved:
    """Run queries on the reserved connection."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, query: Query, arguments: list[Any]) -> Any:
        """Run ``query`` as ``Database.run`` does, but without a retry after a conflict."""
        return await self._database._run(query, arguments, self._database._reserved_slot)


async def _retry_after_conflict(attempt: Callable[[], Awaitable[_Result]]) -> _Result:
    """Await ``attempt``. Repeat it once after a deadlock or a serialization failure."""
    try:
        return await attempt()
    except CONFLICTS:
        # The surviving transaction must first wake up and acquire the locks that were released.
        await asyncio.sleep(RETRY_DELAY)
        return await attempt()


def _discard(connection: asyncpg.Connection) -> None:
    """Close a failed connection, so that the pool opens a new one in its place.

    After a failover a connection may lead to a read-only server, where every change would fail.
    """
    with contextlib.suppress(asyncpg.InterfaceError):  # The pool has closed it already.
        connection.terminate()


DATABASE = web.AppKey("database", Database)
