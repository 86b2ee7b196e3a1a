"""The pool of connections, and what happens when PostgreSQL is away.

A read that meets a lost connection is repeated for a short while, so that a restart of the server
is a pause, not an error. What changes data is repeated only while it surely was never sent.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
from aiohttp import web

from service.database.dsn import url_for_asyncpg
from sql import Query, Runner

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

CONNECT_TIMEOUT = 5.0  # Seconds to open a connection, and to wait for a free one.
COMMAND_TIMEOUT = 15.0  # Seconds a statement may take.
RETRY_WINDOW = 3.0  # Seconds to retry after the database was lost; then requests fail at once.
RETRY_DELAY = 0.05  # Seconds between two tries.
PROBE_INTERVAL = 1.0  # Seconds between two looks, in a long outage, whether it is over.
PING_TIMEOUT = 2.0
CLOSE_TIMEOUT = 2.0  # Seconds for the statements that still run when the service ends.

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
"""What a request sees when PostgreSQL stops, restarts or fails over (seen in tests of asyncpg)."""

QUERY_CANCELED = asyncpg.QueryCanceledError
"""A subclass of one of the above that speaks of the statement, not of the connection."""

CONNECT_ERRORS = (*CONNECTION_ERRORS, asyncpg.PostgresError)
"""What opening a connection may raise: a refusal, as of a changed password, is an outage too."""

CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""PostgreSQL rolled a transaction back so that another can go on: run again, it may succeed."""


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached now; what was asked of it may or may not have happened."""


async def _keep_as_is(connection: asyncpg.Connection) -> None:
    """No reset at release: no code here leaves session state behind, and it costs a round trip."""


async def _prepare(connection: asyncpg.Connection) -> None:
    """Settings of a new connection.

    Every statement here is written so that one plan fits every call: left to itself, PostgreSQL
    plans some of them anew each time, which takes longer than running them. Set by a statement,
    since a pooler refuses parameters at the start that it does not know.
    """
    settings = "set plan_cache_mode = force_generic_plan; set jit = off"
    try:
        await connection.execute(settings, timeout=CONNECT_TIMEOUT)
    except BaseException:
        # asyncpg would close it gracefully, which takes for ever when the server is silent.
        connection.terminate()
        raise


class Database:
    """A bounded pool of connections to one PostgreSQL.

    ``url`` is a libpq connection URL, ``size`` the most connections, besides a spare one. Its
    queries and transactions raise ``DatabaseUnavailable`` when PostgreSQL cannot be reached, and
    ``CancelledError`` when they had to wait for a connection and then ``is_abandoned`` says that
    the response would reach no client.
    """

    def __init__(
        self, url: str, size: int, is_abandoned: Callable[[], bool] = lambda: False
    ) -> None:
        self._url = url
        self._size = size
        self._is_abandoned = is_abandoned
        self._pool: asyncpg.Pool | None = None
        # Connections are given in the order of asking. asyncpg's own queue lets a newcomer take
        # what it has woken somebody for, who then stands behind all others, again and again.
        self._turns = asyncio.Semaphore(size)
        self._spare = asyncio.Semaphore(1)
        self._lost_since: float | None = None
        self._next_probe = 0.0
        self._ping: asyncio.Task[bool] | None = None

    async def open(self) -> None:
        """Make the pool. PostgreSQL may be away: the first request that needs it connects."""
        self._pool = asyncpg.create_pool(
            url_for_asyncpg(self._url),
            min_size=0,
            max_size=self._size + 1,  # And the spare one.
            timeout=CONNECT_TIMEOUT,
            command_timeout=COMMAND_TIMEOUT,
            init=_prepare,
            reset=_keep_as_is,
        )
        await self._pool

    async def close(self) -> None:
        """Wait for running statements, then close every connection."""
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), CLOSE_TIMEOUT)
            except CONNECTION_ERRORS:
                self._pool.terminate()

    async def run(self, query: Query, arguments: list[Any]) -> Any:
        """Carry out ``query`` on a connection of its own; what its header promises comes back.

        Retries once after a deadlock or a serialization failure.
        """
        return await _retry_after_conflict(lambda: self._run(query, arguments, self._turns))

    @property
    def spare(self) -> Runner:
        """The same database by a connection that no request takes, for what must not wait."""
        return _Spare(self)

    async def _run(self, query: Query, arguments: list[Any], turns: asyncio.Semaphore) -> Any:
        give_up = _now() + RETRY_WINDOW
        while True:
            connection = await self._acquire(give_up, turns)
            try:
                result = await getattr(connection, query.method)(query.text, *arguments)
                self._note_success()
                return result
            except QUERY_CANCELED:
                raise
            except CONNECTION_ERRORS as error:
                _discard(connection)
                if self._should_give_up(give_up, error) or not query.is_read_only:
                    raise DatabaseUnavailable from error
            finally:
                await self._release(connection, turns)
            await asyncio.sleep(RETRY_DELAY)

    async def transact(self, work: Callable[[asyncpg.Connection], Awaitable[_Result]]) -> _Result:
        """Run ``work`` in a transaction and return its result.

        Commits when ``work`` returns and rolls back when it raises. After a deadlock or a
        serialization failure ``work`` runs a second time: it must do nothing that a rollback does
        not undo.
        """
        return await _retry_after_conflict(lambda: self._transact(work))

    async def _transact(self, work: Callable[[asyncpg.Connection], Awaitable[_Result]]) -> _Result:
        connection = await self._acquire(_now() + RETRY_WINDOW, self._turns)
        try:
            async with connection.transaction():
                result = await work(connection)
            self._note_success()
            return result
        except QUERY_CANCELED:
            raise
        except CONNECTION_ERRORS as error:
            _discard(connection)
            self._note_loss(error)
            raise DatabaseUnavailable from error
        finally:
            await self._release(connection, self._turns)

    async def answers(self) -> bool:
        """Whether PostgreSQL gives a sign of life within ``PING_TIMEOUT`` seconds."""
        # Simultaneous callers share one ping, so that a flood of them delays no heartbeat.
        if self._ping is None or self._ping.done():
            self._ping = asyncio.create_task(self._send_ping())
        # A ping that timed out may still be closing its connection: no caller waits for that.
        done, _ = await asyncio.wait({self._ping}, timeout=PING_TIMEOUT)
        return bool(done) and await self._ping

    async def _send_ping(self) -> bool:
        # On the spare connection: a pool full of slow statements is not an outage.
        try:
            async with asyncio.timeout(PING_TIMEOUT):
                connection = await self._borrow(self._spare)
                try:
                    await connection.fetchval("select 1")
                except BaseException:
                    _discard(connection)
                    raise
                finally:
                    await self._release(connection, self._spare)
        except CONNECT_ERRORS as error:
            self._note_loss(error)
            return False
        self._note_success()
        return True

    async def _acquire(self, give_up: float, turns: asyncio.Semaphore) -> asyncpg.Connection:
        """A connection; tried again within the gap, since nothing was sent yet."""
        while True:
            looks = self._is_long_lost()
            if looks:
                # A server that is silent keeps whoever asks waiting: in a long outage that is one
                # request at a time, and the others are refused at once.
                if _now() < self._next_probe:
                    raise DatabaseUnavailable
                self._next_probe = math.inf
            try:
                return await self._borrow(turns)
            except CONNECT_ERRORS as error:
                if self._should_give_up(give_up, error):
                    raise DatabaseUnavailable from error
            finally:
                if looks:
                    self._next_probe = _now() + PROBE_INTERVAL
            await asyncio.sleep(RETRY_DELAY)

    async def _borrow(self, turns: asyncio.Semaphore) -> asyncpg.Connection:
        """A connection, in one's turn. Raises ``TimeoutError`` when that does not come."""
        if turns.locked():
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await turns.acquire()
            # Clients that send, reset and send again must not fill the queue: their number is
            # bounded, that of the requests they leave behind is not. Only here, where nothing runs
            # yet: to cancel a running statement takes asyncpg a connection of its own.
            if self._is_abandoned():
                turns.release()
                raise asyncio.CancelledError("the client is gone")
        else:
            await turns.acquire()
        try:
            return await self._open_pool().acquire()
        except BaseException:
            turns.release()
            raise

    async def _release(self, connection: asyncpg.Connection, turns: asyncio.Semaphore) -> None:
        try:
            await self._open_pool().release(connection, timeout=CONNECT_TIMEOUT)
        except CONNECTION_ERRORS:
            _discard(connection)
        finally:
            turns.release()

    def _note_loss(self, error: BaseException) -> None:
        if self._lost_since is None:
            self._lost_since = _now()
            logger.warning("The database is away: %s: %s", type(error).__name__, error)

    def _note_success(self) -> None:
        if self._lost_since is not None:
            self._lost_since = None
            logger.info("The database is back")

    def _should_give_up(self, give_up: float, error: BaseException) -> bool:
        """Note that the database is away; tell whether this request has waited enough for it."""
        self._note_loss(error)
        return _now() >= give_up or self._is_long_lost()

    def _is_long_lost(self) -> bool:
        """Whether the gap is over, counted from the first loss that was seen."""
        return self._lost_since is not None and _now() - self._lost_since >= RETRY_WINDOW

    def _open_pool(self) -> asyncpg.Pool:
        assert self._pool is not None, "the database is used before it was opened"
        return self._pool


class _Spare:
    """Runs queries on the spare connection."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, query: Query, arguments: list[Any]) -> Any:
        """As ``Database.run``."""
        return await self._database._run(query, arguments, self._database._spare)


async def _retry_after_conflict(attempt: Callable[[], Awaitable[_Result]]) -> _Result:
    """Await ``attempt`` and, after a deadlock or a serialization failure, once more."""
    try:
        return await attempt()
    except CONFLICTS:
        # The transaction that survived must first wake up and acquire what the rollback released.
        await asyncio.sleep(RETRY_DELAY)
        return await attempt()


def _discard(connection: asyncpg.Connection) -> None:
    """Close a connection that failed, so that the pool opens another in its place.

    One that a failover left on a server which only reads would fail every change for ever.
    """
    with contextlib.suppress(asyncpg.InterfaceError):  # The pool has closed it already.
        connection.terminate()


def _now() -> float:
    return asyncio.get_running_loop().time()


DATABASE = web.AppKey("database", Database)
