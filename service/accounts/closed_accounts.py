"""Close accounts immediately and remove their content in batches.

Closing an account clears the username, email, password and profile in the user's row. The row
itself stays as the target of foreign keys. From then on, no query finds the account by its
username, and no login or token finds it at all. A background task deletes the rest. Each batch has
its own transaction: locks are held for a few milliseconds, however large the account is, and a
crash loses at most one batch.
"""

import asyncio
import contextlib
import logging
from uuid import UUID

import asyncpg
from aiohttp import web

import sql
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import Database

logger = logging.getLogger(__name__)

INTERVAL = 60.0  # Seconds between two checks for accounts that another process closed.
RETRY_DELAY = 1.0  # Seconds to wait for another process, or for a locked row.
LOCK = 0x636C6F736564  # "closed" in ASCII: the advisory lock for the removal.
ROUNDS = 10  # Batches of one query before the next account gets its turn.

AT_ONCE = (
    (sql.closed_accounts.delete_refresh_tokens, 1000),
    (sql.closed_accounts.delete_sessions, 1000),
    (sql.closed_accounts.delete_one_time_tokens, 1000),
    (sql.closed_accounts.delete_followed, 1000),
    (sql.closed_accounts.delete_followers, 1000),
)
"""The deletions in the transaction that closes an account: at most one batch of each query."""

STEPS = (
    *AT_ONCE,
    (sql.closed_accounts.delete_known_ips, 1000),
    (sql.closed_accounts.delete_favorites, 500),
    (sql.closed_accounts.delete_comments, 1000),
    (sql.closed_accounts.delete_articles, 100),
)
"""Queries with the row limit of one batch. A row takes longer where a table has triggers."""


async def close_account(connection: sql.Connection, user_id: UUID) -> None:
    """Close the account in the transaction of ``connection``, which must hold the user's row lock.

    Call ``ClosedAccounts.wake`` after the commit.
    """
    await sql.closed_accounts.close(connection, user_id=user_id)
    await sql.closed_accounts.delete_two_factor(connection, user_id=user_id)
    await sql.passkeys.delete_all(connection, user_id=user_id)
    await sql.identities.delete_all(connection, user_id=user_id)
    for query, limit in AT_ONCE:
        await query(connection, user_id=user_id, limit=limit)


class ClosedAccounts:
    """Remove closed accounts in a background task. Only one process at a time does this."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the background task, which runs until ``stop``."""
        self._task = asyncio.create_task(self._remove_periodically())

    async def stop(self) -> None:
        """Cancel the background task. The current batch is rolled back."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def wake(self) -> None:
        """Remove accounts immediately, because one was closed."""
        self._woken.set()

    async def remove_all(self) -> bool:
        """Remove every closed account. Return whether none is left.

        The accounts take turns, so that a small account does not wait for a large one. Log an
        account whose removal fails and continue with the others. Raise ``DatabaseUnavailable``.
        """
        while True:
            is_complete, has_progress = True, False
            user_id = UUID(int=0)
            while user_id := await sql.closed_accounts.find_next(self._database, after=user_id):
                is_complete = False
                try:
                    has_progress |= await self._remove_some(user_id)
                except asyncpg.PostgresError:
                    logger.exception("closed account not removed: user_id=%s", user_id)
            if is_complete or not has_progress:
                return is_complete

    async def _remove_some(self, user_id: UUID) -> bool:
        """Run up to ``ROUNDS`` batches of each query. Return whether anything was deleted."""
        has_progress = False
        for query, limit in STEPS:
            for _ in range(ROUNDS):
                if not await self._run(query, user_id=user_id, limit=limit):
                    break
                has_progress = True
        is_removed = await self._run(sql.closed_accounts.delete_user, user_id=user_id)
        return has_progress or bool(is_removed)

    async def _run(self, query: sql.AnyQuery, **arguments: object) -> object:
        """Run ``query`` in its own transaction; return ``None`` if another process has the lock."""

        async def run_in_turn(connection: sql.Connection) -> object:
            if not await sql.cleanup.try_lock(connection, lock=LOCK):
                return None
            return await query(connection, **arguments)

        return await self._database.transact(run_in_turn)

    async def _remove_periodically(self) -> None:
        delay = INTERVAL
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._woken.wait()
            self._woken.clear()
            delay = INTERVAL
            try:
                if not await self.remove_all():
                    delay = RETRY_DELAY
            except DatabaseUnavailable:
                pass  # The pool has already logged it.
            except Exception:
                logger.exception("closed accounts not removed: retry_in=%d", INTERVAL)


CLOSED_ACCOUNTS = web.AppKey("closed_accounts", ClosedAccounts)
