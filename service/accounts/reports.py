"""Undo what a thief did to an account, with the link "This was not me" in a notice.

A report ends all sessions, restores the email to which the notice went, removes a second factor,
passkeys and identities that the account did not have before the notice, makes the password useless
and sends a mail with a link that resets it. A thief may get notices too, after they have changed
the email. So a report leaves the older reports of the account valid, and revokes the newer ones:
the owner, who had the account first, decides.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg
from aiohttp import web

import sql
from service.accounts import one_time_tokens
from service.accounts.emails import queue_reset_email
from service.accounts.link_pages import (
    LINK_BODY,
    LINK_ERRORS,
    LINK_QUERY,
    PAGE_ERRORS,
    PAGE_RESPONSES,
    error_result,
    link_token,
    page,
    result,
    result_responses,
)
from service.accounts.links import mailed_link
from service.accounts.one_time_tokens import Purpose
from service.accounts.security_log import EventKind, write_event
from service.accounts.sessions.opaque_tokens import digest_of
from service.accounts.throttling import known_ips
from service.accounts.throttling.throttle import THROTTLE, Throttle
from service.accounts.two_factor.removal import remove_second_factor
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import Client, client_of
from service.http.errors import Conflict, NotFound
from service.http.routes import Auth, RouteTableDef
from service.settings.settings import Settings

routes = RouteTableDef(tag="Accounts")

REPORTED = "All devices were logged out. A mail with a link to choose a new password was sent."


async def issue_report_link(
    connection: sql.Connection,
    user_id: UUID,
    *,
    email: str,
    email_key: str,
    notice: str,
    settings: Settings,
    data: Mapping[str, str] | None = None,
) -> str:
    """Return a new link that reports what a notice to ``email`` tells.

    ``email`` is the one that the user had before the change: a report restores it. ``notice`` is
    the template of the notice: a report undoes what it tells. ``data`` has the ``passkey_id`` of an
    added passkey, or the ``identity_id`` of a linked identity. The transaction of ``connection``
    must hold the lock on the user's row.
    """
    token = await one_time_tokens.issue(
        connection,
        Purpose.REPORT,
        user_id,
        email=email,
        email_key=email_key,
        data={"notice": notice, **(data or {})},
    )
    return mailed_link(settings, "report", token)


@routes.get(
    "/api/auth/report",
    operation_id="GetReportPage",
    auth=Auth.NONE,
    query=LINK_QUERY,
    pages=True,
    responses=PAGE_RESPONSES,
    errors=PAGE_ERRORS,
)
async def show(request: web.Request) -> web.StreamResponse:
    """Get the page of the link "This was not me".

    The page says what a report does. Opening it changes nothing.
    """
    token = link_token(request)
    database = request.app[DATABASE]
    row = await one_time_tokens.find(database, Purpose.REPORT, token)
    user = await sql.email_verification.find(database, user_id=row["user_id"])
    if user is None:
        raise NotFound("token")
    restores_email = user["email"] != row["email"]
    return page(request, "report", email=row["email"], token=token, restores_email=restores_email)


@routes.post(
    "/api/auth/report",
    operation_id="ReportChange",
    auth=Auth.NONE,
    body=LINK_BODY,
    pages=True,
    responses=result_responses(REPORTED),
    errors=(*LINK_ERRORS, Conflict("email")),
)
async def report(request: web.Request) -> web.StreamResponse:
    """Report a change or a login with the token of a notice.

    All sessions end, an email that was changed is restored, a second factor, passkeys and
    identities that are newer than the notice are removed, and the password no longer works. A mail
    with a link that resets the password is sent, unless the account is locked. Respond 404 if the
    token is unknown or was used, and 410 if it has expired. Respond 409 if another account has the
    email now: then the sessions and the password end, the email is not restored, and the token
    stays valid.
    """
    token = (await read_body(request))["token"]
    client, app = client_of(request), request.app

    async def consume_and_undo(connection: sql.Connection) -> bool:
        return await _undo(connection, client, token, app[THROTTLE], app[SETTINGS])

    if not await app[DATABASE].transact(consume_and_undo):
        return error_result(request, "email_has_other_account", Conflict("email"))
    return result(request, "reported", REPORTED)


async def _undo(
    connection: sql.Connection, client: Client, token: str, throttle: Throttle, settings: Settings
) -> bool:
    """Use ``token``. ``client`` is the owner of its email.

    Return ``False`` if another user has this email. The token is then not used, and the transaction
    must commit nevertheless: a thief must not keep their session by taking the email.
    """
    user_id = (await one_time_tokens.find(connection, Purpose.REPORT, token))["user_id"]
    # Lock before the savepoint: to roll it back would release the lock.
    if await sql.closed_accounts.lock(connection, user_id=user_id) is None:
        raise NotFound("token")
    try:
        async with connection.transaction():
            is_restored = await _consume_and_restore(connection, token)
        is_taken = False
    except asyncpg.UniqueViolationError:
        is_restored, is_taken = False, True
    await write_event(connection, client, EventKind.REPORTED, user_id=user_id)
    if is_restored:
        await write_event(connection, client, EventKind.EMAIL_RESTORED, user_id=user_id)
    await sql.sessions.end_all(
        connection,
        user_id=user_id,
        reason=EventKind.REPORTED,
        ip=client.ip,
        user_agent=client.user_agent,
        actor=client.actor,
    )
    reported = digest_of(token)
    # A thief who turned the second factor on, or replaced its secret, must not keep the owner out.
    if await sql.reports.has_newer_factor(connection, user_id=user_id, digest=reported):
        await remove_second_factor(connection, client, user_id)
    await sql.reports.remove_newer_passkeys(connection, user_id=user_id, digest=reported)
    await sql.reports.remove_newer_identities(connection, user_id=user_id, digest=reported)
    user = await sql.reports.remove_password(connection, user_id=user_id)
    await sql.reports.revoke_tokens(connection, user_id=user_id, reported_digest=reported)
    await known_ips.replace_all(connection, user_id, client.ip_key)
    await throttle.allow_reset_request(connection, user_id)
    # While another user has the email, no mail could be sent to the owner. A locked account gets no
    # way in.
    if not is_taken and not user["is_locked"]:
        await _queue_reset(connection, client, user_id, user, settings)
    return not is_taken


async def _consume_and_restore(connection: sql.Connection, token: str) -> bool:
    """Use ``token`` and restore its email. Return whether the user had another one."""
    row = await one_time_tokens.consume(
        connection, Purpose.REPORT, token, lock=sql.closed_accounts.lock
    )
    restored = await sql.reports.restore_email(
        connection, user_id=row["user_id"], email=row["email"], email_key=row["email_key"]
    )
    return restored is not None


async def _queue_reset(
    connection: sql.Connection, client: Client, user_id: UUID, user: Any, settings: Settings
) -> None:
    """Queue a mail with a link that resets the password, to the email in ``user``."""
    token = await one_time_tokens.issue(
        connection,
        Purpose.RESET_PASSWORD,
        user_id,
        email=user["email"],
        email_key=user["email_key"],
    )
    await queue_reset_email(connection, client, user["email"], token, settings=settings)
