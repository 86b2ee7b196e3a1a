"""The clean-up: rows that nobody needs any more, taken away a batch at a time.

What has ended or expired is kept for as long as an access token may live, so that the answer to
one can say why it is refused. After that it tells nobody anything. A refresh token goes with its
session and not before: an old one that is shown again gives a thief away.
"""

import asyncio
import logging
import random
from functools import partial
from typing import Any

import asyncpg
from aiohttp import web

import sql
from service.database.pool import DATABASE, Database
from service.http.errors import SETTINGS
from service.settings.settings import Settings

logger = logging.getLogger(__name__)

INTERVAL = 300.0  # Seconds between two runs of one process.
UNKNOWN_ACCOUNT_EVENT_TTL = 86_400  # Seconds that failed sign-ins to unknown emails are kept.
BATCH = 1000  # Rows of one transaction: it holds its locks for some milliseconds.
LOCK = 0x636C65616E7570  # "cleanup": the advisory lock of the process whose turn it is.


async def clean_up(database: Database, settings: Settings) -> int:
    """Delete what is due and return how many rows that were; 0 while another process does it.

    What cannot be deleted is logged, and the rest goes all the same. Raises
    ``DatabaseUnavailable``; what was deleted until then stays deleted.
    """
    total = 0
    for delete, arguments in (
        (sql.cleanup.delete_sessions, {"kept": settings.access_token_ttl, "batch": BATCH}),
        (sql.cleanup.delete_events, {"kept": settings.event_ttl, "batch": BATCH}),
        (sql.cleanup.delete_events_of_nobody, {"kept": UNKNOWN_ACCOUNT_EVENT_TTL, "batch": BATCH}),
        (sql.throttle.delete_expired, {"limit": BATCH}),
        (
            sql.throttle.delete_forgotten_addresses,
            {"known_ttl": settings.known_address_ttl, "limit": BATCH},
        ),
    ):
        count = BATCH
        try:
            while count == BATCH:
                deleted = await database.transact(partial(_delete_batch, delete, arguments))
                if deleted is None:
                    return total
                count = deleted
                total += count
        except asyncpg.PostgresError:
            logger.exception("%s of the clean-up failed", delete.name)
    return total


async def _delete_batch(
    delete: sql.Query, arguments: dict[str, Any], connection: sql.Connection
) -> int | None:
    """The count of deleted rows, or ``None`` while another process cleans up."""
    if not await sql.cleanup.try_lock(connection, lock=LOCK):
        return None
    return int(await delete(connection, **arguments))


async def clean_up_for_ever(app: web.Application) -> None:
    """Clean up every few minutes until cancelled; a failure is logged and the next run tries."""
    # Processes that started together do not all come at once.
    pause = random.uniform(0, INTERVAL)  # noqa: S311
    while True:
        await asyncio.sleep(pause)
        pause = INTERVAL
        try:
            await clean_up(app[DATABASE], app[SETTINGS])
        except Exception:
            logger.exception("the clean-up failed; it is tried again in %d seconds", INTERVAL)
