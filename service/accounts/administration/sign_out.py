"""Sign everybody out: end every session of the service, in batches.

Each batch commits on its own. It holds its locks for some hundredths of a second, however many
sessions there are, and its notifications end the cached sessions in every process. So a session is
ended everywhere milliseconds after its batch. An interruption loses nothing: the next run ends the
rest.
"""

import asyncio
from collections.abc import Callable
from uuid import UUID

import sql
from service.accounts.one_time_tokens import Purpose
from service.accounts.security_log import EventKind
from service.database.pool import Database
from service.http.client import Client

BATCH = 1000
"""Sessions that one statement examines."""
RETRY_DELAY = 0.05  # Seconds until a batch with locked sessions is tried again.
MAX_RETRIES = 600
"""Attempts at one batch. No transaction of the service holds a lock for so long."""


class SessionsLocked(Exception):
    """Another program keeps sessions locked. The message is one sentence for the operator."""

    exit_status = 1

    def __init__(self, count: int) -> None:
        super().__init__(
            f"Another program keeps {count} sessions locked, so they are still open. Find it in "
            "pg_stat_activity, and run the same command again."
        )


async def sign_out_everybody(
    database: Database, client: Client, show_progress: Callable[[int, float], None]
) -> int:
    """End every session that began before this call, and log each end. ``client`` is the actor.

    Challenges of logins that wait for a second factor end too. People who sign in meanwhile stay
    signed in. Call ``show_progress`` after each batch with the number of sessions that were open,
    and the part of the work that is done, from 0 to 1. Return that number. Raise
    ``SessionsLocked``.
    """
    began_before = (await sql.sign_out.find_time(database))["time"]
    while await sql.sign_out.revoke_challenges(
        database, began_before=began_before, ttl=Purpose.TWO_FACTOR.ttl, limit=BATCH
    ):
        pass
    total, retries, after = 0, 0, UUID(int=0)
    while True:
        batch = await sql.sign_out.end_batch(
            database,
            after=after,
            limit=BATCH,
            began_before=began_before,
            reason=EventKind.SIGNED_OUT_BY_ADMINISTRATOR,
            ip=client.ip,
            user_agent=client.user_agent,
            actor=client.actor,
        )
        total += int(batch["ended"])
        if batch["last_id"] is None:
            return total
        if batch["skipped"]:
            # A refresh holds its session locked, and its new tokens must end too.
            if (retries := retries + 1) == MAX_RETRIES:
                raise SessionsLocked(batch["skipped"])
            await asyncio.sleep(RETRY_DELAY)
            continue
        retries, after = 0, batch["last_id"]
        # The ids are random, so they tell how far the batches are.
        show_progress(total, after.int / 2**128)
