"""Turn the second factor of an account off."""

from uuid import UUID

import sql
from service.accounts.one_time_tokens import Purpose, revoke
from service.accounts.security_log import EventKind, write_event
from service.http.client import Client


async def remove_second_factor(connection: sql.Connection, client: Client, user_id: UUID) -> bool:
    """Turn the second factor of a user off, and log it. Return whether it was on.

    It is no longer part of the proof of any session, and open challenges end. The transaction of
    ``connection`` must hold the lock on the user's row.
    """
    if await sql.removal.turn_off(connection, user_id=user_id) is None:
        return False
    await revoke(connection, user_id, {Purpose.TWO_FACTOR})
    await write_event(connection, client, EventKind.TWO_FACTOR_DISABLED, user_id=user_id)
    return True
