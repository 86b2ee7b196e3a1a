"""Delete rows that are no longer needed, in batches.

A session that was revoked or has expired is kept for the lifetime of an access token, so that the
response to such a token can give the reason for the rejection. After that, the row has no use.
Refresh tokens are deleted only with their session: the reuse of an old refresh token reveals that
it was stolen (RFC 9700, section 4.14.2).
"""

import asyncio
import logging
import random
from functools import partial

import asyncpg

import sql
from service.accounts.one_time_tokens import KEEP_EXPIRED, Purpose
from service.accounts.sessions.key_rotation import MARGIN
from service.database.pool import Database
from service.mail.outbox import REFUSED_TTL, SENT_TTL
from service.settings.settings import Settings

logger = logging.getLogger(__name__)

INTERVAL = 300.0  # Seconds between two runs of one process.
UNKNOWN_ACCOUNT_EVENT_TTL = 86_400  # Seconds to keep failed logins with unknown emails.
BATCH = 1000  # Rows per transaction, which then holds its locks for a few milliseconds.
LOCK = 0x636C65616E7570  # "cleanup" in ASCII: the advisory lock of the process that cleans up.


async def clean_up(database: Database, settings: Settings) -> int:
    """Delete every row that is due and return the number of deleted rows.

    Stop while another process holds the lock, and return the number so far. Log a deletion that
    fails and continue with the next one. Raise ``DatabaseUnavailable``; the batches that were
    committed before stay deleted.
    """
    total = 0
    deletions: dict[str, sql.AnyQuery] = {
        "cleanup.delete_sessions": partial(
            sql.cleanup.delete_sessions, max_age=settings.access_token_ttl, limit=BATCH
        ),
        "cleanup.delete_events": partial(
            sql.cleanup.delete_events, max_age=settings.event_ttl, limit=BATCH
        ),
        "cleanup.delete_unknown_account_events": partial(
            sql.cleanup.delete_unknown_account_events,
            max_age=UNKNOWN_ACCOUNT_EVENT_TTL,
            limit=BATCH,
        ),
        "signing_keys.delete_superseded": partial(
            sql.signing_keys.delete_superseded, max_age=settings.access_token_ttl + MARGIN
        ),
        "throttle.delete_expired": partial(sql.throttle.delete_expired, limit=BATCH),
        "known_ips.delete_expired": partial(
            sql.known_ips.delete_expired, known_ttl=settings.known_address_ttl, limit=BATCH
        ),
        "outbox.delete_finished": partial(
            sql.outbox.delete_finished, sent_ttl=SENT_TTL, refused_ttl=REFUSED_TTL, limit=BATCH
        ),
        "one_time_tokens.delete_expired_anonymous": partial(
            sql.one_time_tokens.delete_expired_anonymous,
            # A used code of a provider belongs to a user after the second step of the login.
            max_age=Purpose.TWO_FACTOR.ttl,
            limit=BATCH,
        ),
        "one_time_tokens.delete_expired": partial(
            sql.one_time_tokens.delete_expired, max_age=KEEP_EXPIRED, limit=BATCH
        ),
    }
    for name, delete in deletions.items():
        count = BATCH
        try:
            while count == BATCH:
                deleted = await database.transact(partial(_delete_batch, delete))
                if deleted is None:
                    return total
                count = deleted
                total += count
        except asyncpg.PostgresError:
            logger.exception("cleanup query failed: query=%s", name)
    return total


async def _delete_batch(delete: sql.AnyQuery, connection: sql.Connection) -> int | None:
    """Delete one batch; return its row count, or ``None`` while another process cleans up."""
    if not await sql.cleanup.try_lock(connection, lock=LOCK):
        return None
    return int(await delete(connection))


async def clean_up_periodically(database: Database, settings: Settings) -> None:
    """Run ``clean_up`` every ``INTERVAL`` seconds until cancelled. Log failures and continue."""
    # The first delay is random: processes that start together must not clean up together.
    pause = random.uniform(0, INTERVAL)  # noqa: S311
    while True:
        await asyncio.sleep(pause)
        pause = INTERVAL
        try:
            await clean_up(database, settings)
        except Exception:
            logger.exception("cleanup failed: retry_in=%d", INTERVAL)
