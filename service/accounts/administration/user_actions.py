"""What an administrator does with one account. The security log of its owner has each act.

The ``client`` of each function is the administrator, with an ``actor``. The statements of a
function must run in one transaction. An account that does not exist, or that is closed, raises
``NotFound``.
"""

from dataclasses import replace
from typing import Any
from uuid import UUID

import sql
from service.accounts import one_time_tokens
from service.accounts.account_lock import AccountLocked, lock_account, unlock_account
from service.accounts.closed_accounts import close_account
from service.accounts.emails import queue_reset_email
from service.accounts.one_time_tokens import REVOKED_BY_PASSWORD_CHANGE, Purpose
from service.accounts.security_log import EventKind, write_event
from service.accounts.throttling.throttle import Throttle
from service.accounts.two_factor.removal import remove_second_factor
from service.accounts.two_factor.second_factor import queue_factor_notice
from service.database.pool import Database
from service.http.client import Client
from service.http.errors import NotFound
from service.settings.settings import Settings


async def lock(connection: sql.Connection, client: Client, user_id: UUID) -> bool:
    """Lock an account and end its sessions. Return whether it was unlocked."""
    await _lock_user(connection, user_id)
    return await lock_account(connection, client, user_id)


async def unlock(connection: sql.Connection, client: Client, user_id: UUID) -> bool:
    """Unlock an account. Return whether it was locked."""
    await _lock_user(connection, user_id)
    return await unlock_account(connection, client, user_id)


async def sign_out_user(connection: sql.Connection, client: Client, user_id: UUID) -> int:
    """End every session of a user, and the logins that wait for a second factor.

    Return the number of sessions that were open. The person can log in again at once.
    """
    await _lock_user(connection, user_id)
    count: int = await sql.sessions.count_open(connection, user_id=user_id)
    kind = EventKind.SIGNED_OUT_BY_ADMINISTRATOR
    await write_event(connection, client, kind, user_id=user_id)
    await sql.sessions.end_all(
        connection,
        user_id=user_id,
        reason=kind,
        ip=client.ip,
        user_agent=client.user_agent,
        actor=client.actor,
    )
    await one_time_tokens.revoke(connection, user_id, {Purpose.TWO_FACTOR})
    return count


async def end_session(
    connection: sql.Connection, client: Client, user_id: UUID, session_id: UUID
) -> bool:
    """End one session of a user. Return whether it was open."""
    ended = await sql.sessions.end_one(
        connection,
        id=session_id,
        user_id=user_id,
        kind=EventKind.SIGNED_OUT_BY_ADMINISTRATOR,
        ip=client.ip,
        user_agent=client.user_agent,
        actor=client.actor,
    )
    return ended is not None


async def verify_email(
    connection: sql.Connection, client: Client, user_id: UUID, email: str
) -> bool:
    """Verify ``email``, which the administrator has seen. Return whether it was unverified.

    Raise ``NotFound`` if the account has another email by now: no administrator has seen that one.
    """
    user = await _lock_user(connection, user_id)
    if user["email"] != email:
        raise NotFound("email")
    if user["is_verified"]:
        return False
    await sql.email_verification.verify(connection, user_id=user_id, email=email)
    await one_time_tokens.revoke(connection, user_id, {Purpose.VERIFY_EMAIL})
    await write_event(connection, client, EventKind.EMAIL_VERIFIED, user_id=user_id)
    return True


async def start_reset(
    connection: sql.Connection,
    client: Client,
    user_id: UUID,
    settings: Settings,
    *,
    revoke_password: bool = False,
) -> str:
    """Queue a mail with a link that resets the password. Return the email it is sent to.

    It is the same mail, link and event as when the person has forgotten the password. No
    administrator learns or chooses a password (OWASP ASVS 5.0, 6.4.6). The sessions and the old
    password end when the person uses the link, or with ``revoke_password`` now. Raise
    ``AccountLocked`` if the account is locked: its links do not work.
    """
    user = await _lock_user(connection, user_id)
    if user["locked_at"] is not None:
        raise AccountLocked
    if revoke_password:
        await _revoke_password(connection, client, user_id)
    email: str = user["email"]
    token = await one_time_tokens.issue(
        connection, Purpose.RESET_PASSWORD, user_id, email=email, email_key=user["email_key"]
    )
    await queue_reset_email(connection, _sender(client), email, token, settings=settings)
    await write_event(connection, client, EventKind.PASSWORD_RESET_REQUESTED, user_id=user_id)
    return email


async def _revoke_password(connection: sql.Connection, client: Client, user_id: UUID) -> None:
    """Make the password useless, and end what it has opened: sessions, challenges and links."""
    kind = EventKind.PASSWORD_REVOKED
    await write_event(connection, client, kind, user_id=user_id)
    await sql.reports.remove_password(connection, user_id=user_id)
    await sql.sessions.end_all(
        connection,
        user_id=user_id,
        reason=kind,
        ip=client.ip,
        user_agent=client.user_agent,
        actor=client.actor,
    )
    await one_time_tokens.revoke(connection, user_id, REVOKED_BY_PASSWORD_CHANGE)


async def disable_two_factor(
    connection: sql.Connection,
    client: Client,
    user_id: UUID,
    *,
    throttle: Throttle,
    settings: Settings,
) -> bool:
    """Turn the second factor of a user off, and tell them by mail. Return whether it was on."""
    await _lock_user(connection, user_id)
    if not await remove_second_factor(connection, client, user_id):
        return False
    await queue_factor_notice(
        connection,
        _sender(client),
        "two_factor_off",
        user_id,
        throttle=throttle,
        settings=settings,
    )
    return True


async def delete_account(connection: sql.Connection, client: Client, user_id: UUID) -> None:
    """Delete an account, as its user can. A process of the service removes its content.

    A process that has ``ClosedAccounts`` calls ``wake`` after the commit. Otherwise the removal
    begins within a minute.
    """
    if await sql.closed_accounts.lock(connection, user_id=user_id) is None:
        raise NotFound("user")
    await close_account(connection, user_id)
    await write_event(connection, client, EventKind.ACCOUNT_DELETED, user_id=user_id)


def _sender(client: Client) -> Client:
    """Return ``client`` without the IP address, which is not for the owner of the account."""
    return replace(client, ip=None)


async def log_export(database: Database, client: Client, user_id: UUID) -> None:
    """Log that an administrator gets everything that is stored about a user."""
    await write_event(database, client, EventKind.EXPORTED, user_id=user_id)


async def _lock_user(connection: sql.Connection, user_id: UUID) -> Any:
    """Lock the row of a user until the transaction ends, and return it."""
    await sql.sessions.lock_user(connection, user_id=user_id)
    user = await sql.email_verification.find(connection, user_id=user_id)
    if user is None:
        raise NotFound("user")
    return user
