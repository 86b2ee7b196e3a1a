"""Hand free connections from one request to the next without asyncpg's release.

asyncpg creates a task and two futures for each release. They take half of the CPU time of a fast
query. Every ``KEPT_SECONDS`` the free connections are released after all, so that asyncpg can close
those that ran its maximum of queries or that no request needs.
"""

import asyncio
import contextlib

import asyncpg
from asyncpg.pool import PoolConnectionProxy

KEPT_SECONDS = 10.0
RELEASE_TIMEOUT = 5.0  # Seconds that asyncpg may wait for the end of a cancelled statement.


class ConnectionPool:
    """The connections of ``pool``, which must be open."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._free: list[PoolConnectionProxy] = []
        self._timer: asyncio.TimerHandle | None = None
        self._releasing: asyncio.Task[None] | None = None
        self._is_closing = False

    async def acquire(self) -> PoolConnectionProxy:
        """Return a free connection, or a new one. Raise the errors of asyncpg."""
        while self._free:
            connection = self._free.pop()
            if _is_open(connection):
                return connection
            await self._pool.release(connection)
        return await self._pool.acquire()

    async def release(self, connection: PoolConnectionProxy, *, is_clean: bool) -> None:
        """Free ``connection``. Raise the errors of asyncpg.

        ``is_clean`` is true if its last statement or transaction was completed without an error.
        """
        if not is_clean or self._is_closing:
            await self._pool.release(connection, timeout=RELEASE_TIMEOUT)
            return
        self._free.append(connection)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(KEPT_SECONDS, self._start_releasing)

    async def close(self) -> None:
        """Wait until every connection is released, and close it."""
        self._is_closing = True
        if self._timer is not None:
            self._timer.cancel()
        await self._release_free()
        await self._pool.close()

    def terminate(self) -> None:
        """Close every connection immediately."""
        self._pool.terminate()

    def _start_releasing(self) -> None:
        self._timer = None
        self._releasing = asyncio.create_task(self._release_free())

    async def _release_free(self) -> None:
        while self._free:
            # A connection that fails here is closed, and the next request opens another.
            with contextlib.suppress(Exception):
                await self._pool.release(self._free.pop(), timeout=RELEASE_TIMEOUT)


def _is_open(connection: PoolConnectionProxy) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # asyncpg has noticed the loss and taken it back.
        return False
