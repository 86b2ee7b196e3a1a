"""Lock an account, and unlock it: an administrator decides, with ``run.py users``.

A locked account has no session, and none can be opened: every login ends in ``SignIn.finish``,
which refuses it. No mailed link of it is valid, except reports, and no link that resets the
password is sent. This is another lock than that of ``login_unlock``, which rejects passwords only.
"""

from uuid import UUID

import sql
from service.accounts.one_time_tokens import REVOKED_BY_ACCOUNT_LOCK, revoke
from service.accounts.security_log import EventKind, write_event
from service.http.client import Client
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError


class AccountLocked(ApiError):
    """403: the account is locked. Only a client that has proved who they are may see this."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.ACCOUNT_LOCKED, {"account": ["is locked"]})


async def lock_account(connection: sql.Connection, client: Client, user_id: UUID) -> bool:
    """Lock the account of a user, end its sessions, and log it. ``client`` is the administrator.

    Unused one-time tokens are revoked, except reports. Return whether the account was unlocked
    before. The statements must run in one transaction. It waits for the logins that are about to
    open a session, so that their sessions end too. Those that come later find the lock.
    """
    await sql.sessions.lock_user(connection, user_id=user_id)
    if await sql.account_lock.lock(connection, user_id=user_id) is None:
        return False
    await write_event(connection, client, EventKind.ACCOUNT_LOCKED, user_id=user_id)
    await sql.sessions.end_all(
        connection,
        user_id=user_id,
        reason=EventKind.ACCOUNT_LOCKED,
        ip=client.ip,
        user_agent=client.user_agent,
        actor=client.actor,
    )
    await revoke(connection, user_id, REVOKED_BY_ACCOUNT_LOCK)
    return True


async def unlock_account(connection: sql.Connection, client: Client, user_id: UUID) -> bool:
    """Unlock the account of a user, and log it. Return whether it was locked.

    Sessions and links that the lock has ended stay invalid.
    """
    await sql.sessions.lock_user(connection, user_id=user_id)
    if await sql.account_lock.unlock(connection, user_id=user_id) is None:
        return False
    await write_event(connection, client, EventKind.ACCOUNT_UNLOCKED, user_id=user_id)
    return True


async def require_unlocked(
    connection: sql.Connection, user_id: UUID, password_version: int
) -> None:
    """Raise ``AccountLocked`` if the account is locked and has this version of the password.

    With an older version, the client has not proved who they are.
    """
    if await sql.account_lock.is_locked(
        connection, user_id=user_id, password_version=password_version
    ):
        raise AccountLocked
