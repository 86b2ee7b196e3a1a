"""Closed accounts: an account closes at once, and what it wrote is removed in batches.

Closing takes the name, the email, the password and the profile out of the user's row, which stays
as the target of foreign keys. No query finds a closed account by its name, and no login or token
finds it at all. A background task deletes the rest, each batch in a transaction of its own: locks
are held for some milliseconds, however large the account is, and a crash loses one batch at most.
"""

import asyncio
import contextlib
import logging
from uuid import UUID

import asyncpg
from aiohttp import web

import sql
from service.database.pool import Database, DatabaseUnavailable

logger = logging.getLogger(__name__)

INTERVAL = 60.0  # Seconds between two looks for accounts that another process closed.
RETRY_DELAY = 1.0  # Seconds to wait for another process, or for a row that is locked.
LOCK = 0x636C6F736564  # "closed": the advisory lock of the process that removes.
ROUNDS = 10  # Batches of one kind before another account gets its turn.

AT_ONCE = (
    (sql.closed_accounts.delete_refresh_tokens, 1000),
    (sql.closed_accounts.delete_sessions, 1000),
    (sql.closed_accounts.delete_followed, 1000),
    (sql.closed_accounts.delete_followers, 1000),
)
"""What is deleted in the transaction that closes an account, as far as one batch of each goes."""

STEPS = (
    *AT_ONCE,
    (sql.closed_accounts.delete_known_addresses, 1000),
    (sql.closed_accounts.delete_favorites, 500),
    (sql.closed_accounts.delete_comments, 1000),
    (sql.closed_accounts.delete_articles, 100),
)
"""Queries and the rows of one batch. Those with triggers take longer for each row."""


async def close_account(connection: sql.Connection, user_id: UUID) -> None:
    """Close the account in the transaction of ``connection``, which holds the user's row.

    Call ``ClosedAccounts.wake`` once it is committed.
    """
    await sql.closed_accounts.close(connection, user_id=user_id)
    for query, limit in AT_ONCE:
        await query(connection, user_id=user_id, limit=limit)


class ClosedAccounts:
    """Removes closed accounts, one batch at a time; one process of all does it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to remove, and go on until ``stop``."""
        self._task = asyncio.create_task(self._remove_for_ever())

    async def stop(self) -> None:
        """Remove no more. The batch in hand is rolled back."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def wake(self) -> None:
        """Start at once: an account was closed."""
        self._woken.set()

    async def remove_all(self) -> bool:
        """Remove every closed account. Return whether none is left.

        Every account gets its turn, so that a small one does not wait until a large one is removed.
        An account that cannot be removed is logged, and the others go all the same. Raises
        ``DatabaseUnavailable``.
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
        """Remove some batches of an account. Return whether anything was removed."""
        has_progress = False
        for query, limit in STEPS:
            for _ in range(ROUNDS):
                if not await self._run(query, user_id=user_id, limit=limit):
                    break
                has_progress = True
        is_removed = await self._run(sql.closed_accounts.delete_user, user_id=user_id)
        return has_progress or bool(is_removed)

    async def _run(self, query: sql.Query, **arguments: object) -> object:
        """Run ``query`` in a transaction of its own; nothing while another process removes."""

        async def run_in_turn(connection: sql.Connection) -> object:
            if not await sql.cleanup.try_lock(connection, lock=LOCK):
                return None
            return await query(connection, **arguments)

        return await self._database.transact(run_in_turn)

    async def _remove_for_ever(self) -> None:
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
                pass  # The pool has logged it.
            except Exception:
                logger.exception("closed accounts not removed: retry_in=%d", INTERVAL)


CLOSED_ACCOUNTS = web.AppKey("closed_accounts", ClosedAccounts)
