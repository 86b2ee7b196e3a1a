"""Verify that the email of an account belongs to the person who uses the account.

A registration queues a mail with a link, and in the strict dialect a changed email does. The link
opens a page. The person on the page either confirms the email, or says that they did not register.
The latter deletes an account that never had a verified email, so that no account keeps the email of
another person.
"""

from typing import Any

from aiohttp import web

import sql
from service.accounts import one_time_tokens
from service.accounts.closed_accounts import CLOSED_ACCOUNTS, close_account
from service.accounts.emails import queue_verification_email
from service.accounts.link_pages import (
    LINK_BODY,
    LINK_ERRORS,
    LINK_QUERY,
    PAGE_ERRORS,
    PAGE_RESPONSES,
    error_result,
    link_token,
    message_schema,
    page,
    result,
    result_responses,
)
from service.accounts.one_time_tokens import Purpose
from service.accounts.security_log import EventKind, write_event
from service.accounts.sessions.sessions import require_active_session
from service.accounts.throttling.throttle import THROTTLE, Throttle
from service.accounts.user import User
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import Client, client_of
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError, NotFound, TooManyAttempts
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.settings.settings import Settings

routes = RouteTableDef(tag="Accounts")

CONFIRMED = "Your email is confirmed."
DECLINED = "The account was deleted. Your email is free again."
SENT = "A mail with a link was sent."
ALREADY_VERIFIED = "Your email is already confirmed."


class EmailNotVerified(ApiError):
    """403: ``REQUIRE_VERIFIED_EMAIL`` is set, and the email of the account is not verified."""

    def __init__(self) -> None:
        super().__init__(
            ErrorCode.EMAIL_NOT_VERIFIED, {"email": ["is not verified: use the link in the mail"]}
        )


class VerifiedBefore(NotFound):
    """404: an account that had a verified email is not deleted as one that nobody registered."""

    def __init__(self) -> None:
        super().__init__("registration")


async def queue_verification(
    connection: sql.Connection,
    client: Client,
    user: Any,
    *,
    throttle: Throttle,
    settings: Settings,
) -> int | None:
    """Queue a mail with a link that verifies the email of ``user``, at a limited rate.

    ``client`` causes it. ``user`` is a row with ``id``, ``email``, ``email_key`` and
    ``ever_verified``.

    The transaction of ``connection`` must hold the lock on the user's row, or insert that row.
    Return ``None`` if the mail is queued, and otherwise the seconds until the next one may be.
    """
    email, email_key = user["email"], user["email_key"]
    retry_after = await throttle.admit_verification_email(connection, email_key)
    if retry_after is None:
        token = await one_time_tokens.issue(
            connection, Purpose.VERIFY_EMAIL, user["id"], email=email, email_key=email_key
        )
        can_decline = not user["ever_verified"]
        await queue_verification_email(
            connection, client, email, token, can_decline=can_decline, settings=settings
        )
    return retry_after


@routes.get(
    "/api/auth/verify-email",
    operation_id="GetVerificationPage",
    auth=Auth.NONE,
    query=LINK_QUERY,
    pages=True,
    responses=PAGE_RESPONSES,
    errors=PAGE_ERRORS,
)
async def show(request: web.Request) -> web.StreamResponse:
    """Get the page of the link that verifies an email.

    The page asks what to do. Opening it changes nothing.
    """
    token = link_token(request)
    database = request.app[DATABASE]
    row = await one_time_tokens.find(database, Purpose.VERIFY_EMAIL, token)
    user = await sql.email_verification.find(database, user_id=row["user_id"])
    if user is None or user["email"] != row["email"]:
        raise NotFound("token")
    can_decline = not user["ever_verified"]
    return page(request, "verify_email", email=row["email"], token=token, can_decline=can_decline)


@routes.post(
    "/api/auth/verify-email",
    operation_id="VerifyEmail",
    auth=Auth.NONE,
    body=LINK_BODY,
    pages=True,
    responses=result_responses(CONFIRMED),
    errors=LINK_ERRORS,
)
async def verify(request: web.Request) -> web.StreamResponse:
    """Verify an email with the token of a mailed link.

    Respond 404 if the token is unknown or was used, and 410 if it has expired.
    """
    token = (await read_body(request))["token"]
    client = client_of(request)

    async def consume_and_verify(connection: sql.Connection) -> None:
        row = await one_time_tokens.consume(connection, Purpose.VERIFY_EMAIL, token)
        user_id = row["user_id"]
        if not await sql.email_verification.verify(connection, user_id=user_id, email=row["email"]):
            raise NotFound("token")
        await one_time_tokens.revoke(connection, user_id, {Purpose.VERIFY_EMAIL})
        await write_event(connection, client, EventKind.EMAIL_VERIFIED, user_id=user_id)

    await request.app[DATABASE].transact(consume_and_verify)
    return result(request, "email_confirmed", CONFIRMED)


@routes.post(
    "/api/auth/verify-email/decline",
    operation_id="DeclineRegistration",
    auth=Auth.NONE,
    body=LINK_BODY,
    pages=True,
    responses=result_responses(DECLINED),
    errors=(*LINK_ERRORS, VerifiedBefore()),
)
async def decline(request: web.Request) -> web.StreamResponse:
    """Delete the account that another person registered with an email.

    The token is that of the link that verifies the email. The account is deleted only if none of
    its emails was ever verified. Otherwise respond 404 with the subject ``registration``.
    """
    token = (await read_body(request))["token"]
    client = client_of(request)

    async def consume_and_close(connection: sql.Connection) -> None:
        row = await one_time_tokens.consume(
            connection, Purpose.VERIFY_EMAIL, token, lock=sql.closed_accounts.lock
        )
        user = await sql.email_verification.find(connection, user_id=row["user_id"])
        if user is None or user["email"] != row["email"]:
            raise NotFound("token")
        if user["ever_verified"]:
            raise VerifiedBefore
        await close_account(connection, row["user_id"])
        await write_event(connection, client, EventKind.ACCOUNT_DELETED, user_id=row["user_id"])

    try:
        await request.app[DATABASE].transact(consume_and_close)
    except VerifiedBefore as error:
        return error_result(request, "account_kept", error)
    request.app[CLOSED_ACCOUNTS].wake()
    return result(request, "account_deleted", DECLINED)


@routes.post(
    "/api/auth/verify-email/resend",
    operation_id="SendVerificationEmail",
    setup=True,
    responses={200: message_schema(SENT)},
    errors=(TooManyAttempts("email", retry_after=60),),
)
async def resend(request: web.Request) -> web.StreamResponse:
    """Send another mail with a link that verifies the email.

    Respond 200 without a mail if the email is verified already.
    """
    user: User = request["user"]
    database, throttle = request.app[DATABASE], request.app[THROTTLE]
    row = await sql.email_verification.find(database, user_id=user.id)
    if row is not None and row["is_verified"]:
        return json_response({"message": ALREADY_VERIFIED})
    await throttle.admit_resend(user.id)

    async def queue_unless_verified(connection: sql.Connection) -> str:
        await sql.sessions.lock_user(connection, user_id=user.id)
        await require_active_session(connection, user)
        # The email may have been changed or verified since the first query.
        current = await sql.email_verification.find(connection, user_id=user.id)
        assert current is not None, "a user with an active session exists"
        if current["is_verified"]:
            return ALREADY_VERIFIED
        retry_after = await queue_verification(
            connection,
            client_of(request),
            current,
            throttle=throttle,
            settings=request.app[SETTINGS],
        )
        if retry_after is not None:
            raise TooManyAttempts("email", retry_after=retry_after)
        return SENT

    return json_response({"message": await database.transact(queue_unless_verified)})
