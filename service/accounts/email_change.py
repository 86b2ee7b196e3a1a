"""Change the email of an account when the owner of the new email confirms the change.

``PUT /api/user`` with another email queues a mail with a link to the new email. Until the link is
used, the account keeps its old email, verified and in use. In the strict dialect the email changes
at once, as the RealWorld specification requires, and is not verified.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg
from aiohttp import web

import sql
from service.accounts import fields, one_time_tokens
from service.accounts.email_verification import queue_verification
from service.accounts.emails import queue_email_change_email
from service.accounts.link_pages import (
    LINK_BODY,
    LINK_ERRORS,
    LINK_QUERY,
    PAGE_ERRORS,
    PAGE_RESPONSES,
    link_token,
    page,
    result,
    result_responses,
)
from service.accounts.notices import queue_notice
from service.accounts.one_time_tokens import REVOKED_BY_EMAIL_CHANGE, Purpose
from service.accounts.security_log import EventKind, write_event
from service.accounts.throttling.throttle import THROTTLE, Throttle
from service.accounts.user import User
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import Client, client_of
from service.http.errors import Conflict, NotFound, TooManyAttempts
from service.http.routes import Auth, RouteTableDef
from service.settings.settings import Settings

routes = RouteTableDef(tag="Accounts")

CONFIRMED = "Your email was changed. Log in with the new one from now on."


async def apply_email_update(
    connection: sql.Connection,
    client: Client,
    user: User,
    row: Any,
    given: Mapping[str, Any],
    *,
    throttle: Throttle,
    settings: Settings,
) -> None:
    """Log a changed email and queue the mail that it needs. Request a change, or cancel one.

    ``row`` is the user after the update to the fields ``given``. Its email is the old one, except
    in the strict dialect. The transaction of ``connection`` must hold the lock on the user's row.
    Raise ``TooManyAttempts`` if a change must be confirmed, and no mail may be sent now.
    """
    here = {"user_id": user.id, "session_id": user.session_id}
    if row["email_changed"]:
        await write_event(connection, client, EventKind.EMAIL_CHANGED, **here)
        await _retire_old_email(
            connection, client, user.id, row, throttle=throttle, settings=settings
        )
        await queue_verification(connection, client, row, throttle=throttle, settings=settings)
    # The handler has required a proof for another email than that of ``user``. The email may have
    # changed since ``user`` was read: the old one is no request, and needed no proof.
    elif "email" in given and given["email"] not in (user.email, row["email"]):
        await write_event(connection, client, EventKind.EMAIL_CHANGE_REQUESTED, **here)
        await _request_change(
            connection, client, user.id, given["email"], throttle=throttle, settings=settings
        )
    elif set(given) == {"email"}:
        # Many front-ends send the current email beside the fields that the person has changed. Such
        # a request cancels no change.
        await one_time_tokens.revoke(connection, user.id, {Purpose.CHANGE_EMAIL})


async def _request_change(
    connection: sql.Connection,
    client: Client,
    user_id: UUID,
    email: str,
    *,
    throttle: Throttle,
    settings: Settings,
) -> None:
    """Queue a mail to ``email`` with a link that makes it the email of the user.

    The link of an earlier request is then no longer valid.
    """
    email_key = fields.email_key(email)
    retry_after = await throttle.admit_verification_email(connection, email_key)
    if retry_after is not None:
        # Without its mail the change could never be confirmed. A success would mislead the person.
        raise TooManyAttempts("email", retry_after=retry_after)
    token = await one_time_tokens.issue(
        connection, Purpose.CHANGE_EMAIL, user_id, email=email, email_key=email_key
    )
    await queue_email_change_email(connection, client, email, token, settings=settings)


@routes.get(
    "/api/auth/confirm-email-change",
    operation_id="GetEmailChangePage",
    auth=Auth.NONE,
    query=LINK_QUERY,
    pages=True,
    responses=PAGE_RESPONSES,
    errors=PAGE_ERRORS,
)
async def show(request: web.Request) -> web.StreamResponse:
    """Get the page of the link that changes the email.

    The page asks for a confirmation. Opening it changes nothing.
    """
    token = link_token(request)
    row = await one_time_tokens.find(request.app[DATABASE], Purpose.CHANGE_EMAIL, token)
    return page(request, "change_email", email=row["email"], token=token)


@routes.post(
    "/api/auth/confirm-email-change",
    operation_id="ConfirmEmailChange",
    auth=Auth.NONE,
    body=LINK_BODY,
    pages=True,
    responses=result_responses(CONFIRMED),
    errors=(*LINK_ERRORS, Conflict("email")),
)
async def confirm(request: web.Request) -> web.StreamResponse:
    """Change the email with the token of a mailed link.

    The new email is verified. Respond 404 if the token is unknown, was used or was replaced, 410 if
    it has expired, and 409 if another account has taken the email since the request.
    """
    token = (await read_body(request))["token"]
    client, app = client_of(request), request.app

    async def consume_and_change(connection: sql.Connection) -> None:
        row = await one_time_tokens.consume(
            connection, Purpose.CHANGE_EMAIL, token, lock=sql.closed_accounts.lock
        )
        await _change(connection, client, row, app[THROTTLE], app[SETTINGS])

    try:
        await app[DATABASE].transact(consume_and_change)
    except asyncpg.UniqueViolationError:
        # The constraint decides between accounts that confirm one email at the same time.
        raise Conflict("email") from None
    return result(request, "email_changed", CONFIRMED)


async def _change(
    connection: sql.Connection, client: Client, row: Any, throttle: Throttle, settings: Settings
) -> None:
    """Make the email of the token ``row`` that of its user."""
    user_id = row["user_id"]
    before = await sql.email_change.confirm(
        connection, user_id=user_id, email=row["email"], email_key=row["email_key"]
    )
    if before is None:
        raise NotFound("token")
    await write_event(connection, client, EventKind.EMAIL_CHANGED, user_id=user_id)
    await _retire_old_email(
        connection, client, user_id, before, throttle=throttle, settings=settings
    )


async def _retire_old_email(
    connection: sql.Connection,
    client: Client,
    user_id: UUID,
    row: Any,
    *,
    throttle: Throttle,
    settings: Settings,
) -> None:
    """Revoke the links to the old email in ``row``, and tell its owner about the change.

    A person may have mistyped their email at the registration. The notice would give the owner of
    that email the account, because its link restores the email. So nothing is sent to the first
    email of an account if it was never verified, and the reports that were sent to it are revoked.
    """
    ever_verified = row["ever_verified"]
    purposes = REVOKED_BY_EMAIL_CHANGE if ever_verified else frozenset(Purpose)
    await one_time_tokens.revoke(connection, user_id, purposes)
    await throttle.allow_reset_request(connection, user_id)
    await sql.login_unlock.allow_mail(connection, user_id=user_id)
    if ever_verified:
        await queue_notice(
            connection,
            client,
            "email_changed",
            user_id=user_id,
            email=row["old_email"],
            email_key=row["old_email_key"],
            throttle=throttle,
            settings=settings,
        )
