"""What every change of a passkey or an identity by the current user has in common."""

from collections.abc import Mapping

from aiohttp import web

import sql
from service.accounts import one_time_tokens
from service.accounts.notices import queue_notice
from service.accounts.one_time_tokens import Purpose
from service.accounts.security_log import EventKind, write_event
from service.accounts.sessions.sessions import end_other_sessions, require_active_session
from service.accounts.throttling.throttle import THROTTLE
from service.accounts.user import User
from service.http.app_keys import SETTINGS
from service.http.client import Client


async def lock_owner(connection: sql.Connection, user: User) -> None:
    """Lock the row of ``user`` until the transaction ends.

    Raise ``Unauthorized`` if the session was ended meanwhile.
    """
    await sql.sessions.lock_user(connection, user_id=user.id)
    await require_active_session(connection, user)


async def apply_side_effects(
    app: web.Application,
    connection: sql.Connection,
    client: Client,
    user: User,
    kind: EventKind,
    notice: str,
    *,
    end_others: bool,
    data: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
) -> None:
    """Log a change as ``kind``, and tell the owner by the mail ``notice``.

    With ``end_others``, end the other sessions and the logins that wait for a second factor. The
    transaction of ``connection`` must hold the lock on the user's row. ``data`` and
    ``values`` are those of the notice.
    """
    await write_event(connection, client, kind, user_id=user.id, session_id=user.session_id)
    if end_others:
        await end_other_sessions(connection, client, user, EventKind.SESSION_ENDED)
        await one_time_tokens.revoke(connection, user.id, {Purpose.TWO_FACTOR})
    owner = await sql.email_verification.find(connection, user_id=user.id)
    assert owner is not None, "a user with an active session exists"
    await queue_notice(
        connection,
        client,
        notice,
        user_id=user.id,
        email=owner["email"],
        email_key=owner["email_key"],
        throttle=app[THROTTLE],
        settings=app[SETTINGS],
        data=data,
        values=values,
    )
