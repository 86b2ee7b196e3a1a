"""Reset a forgotten password with a mailed link.

The responses to ``forgot-password`` do not reveal whether an account exists. A known and an unknown
email get the same response and the same limits, the same statements run, and the response is sent
at the same time (OWASP Forgot Password Cheat Sheet). The mail is rendered by the worker that sends
it.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any

import voluptuous as vol
from aiohttp import web

import sql
from service.accounts import fields, one_time_tokens
from service.accounts.emails import queue_reset_email
from service.accounts.link_pages import (
    LINK_BODY,
    LINK_ERRORS,
    LINK_QUERY,
    PAGE_ERRORS,
    PAGE_RESPONSES,
    link_token,
    message_schema,
    minutes_to_wait,
    page,
    result,
    result_responses,
)
from service.accounts.notices import queue_notice
from service.accounts.one_time_tokens import (
    REVOKED_BY_PASSWORD_CHANGE,
    Purpose,
)
from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.passwords.policy import PASSWORD_POLICY, TOO_COMMON
from service.accounts.passwords.verification import requester_of
from service.accounts.security_log import EventKind, write_event
from service.accounts.throttling import known_ips
from service.accounts.throttling.login_attempts import LOGIN_ATTEMPTS, unknown_account_id
from service.accounts.throttling.throttle import THROTTLE
from service.accounts.two_factor.removal import remove_second_factor
from service.database.pool import DATABASE, Database
from service.http.app_keys import SETTINGS
from service.http.bodies import form_fields, is_form, read_body
from service.http.client import Client, client_of
from service.http.errors import (
    BLANK,
    ApiError,
    InvalidInput,
    NotFound,
    TooManyAttempts,
    Unavailable,
    status_of,
)
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.http.validation import required
from service.mail.outbox import NO_RECIPIENT

routes = RouteTableDef(tag="Accounts")

SENT = "If an account uses this email, a mail with a link was sent to it."
RESET = "Your password was changed. Log in with the new password."

PROBLEMS = {
    BLANK: "blank",
    "is too short": "too_short",
    "is too long": "too_long",
    TOO_COMMON: "too_common",
}
"""The problem of a password for the page, by the start of the message of the validator."""

RESPONSE_TIME = 0.1
"""Seconds after which ``forgot-password`` responds, or a multiple if its statements take longer.

The same statements run for an unknown email, but they insert less. Of 200 requests, the ranks of
their times would tell some known emails from unknown ones.
"""

TIMER_RESOLUTION = 0.002  # Seconds by which a sleep may be too long.

FORGOT = vol.Schema({required("email"): fields.email}, extra=vol.REMOVE_EXTRA)
BODY = LINK_BODY.extend({required("new_password"): fields.new_password})


@routes.post(
    "/api/auth/forgot-password",
    operation_id="SendPasswordResetEmail",
    auth=Auth.NONE,
    body=FORGOT,
    responses={200: message_schema(SENT)},
    errors=(TooManyAttempts("email", retry_after=60),),
)
async def forgot(request: web.Request) -> web.StreamResponse:
    """Send a mail with a link that resets the password.

    Respond 200 with the same body and in the same time whether or not an account has the email.
    Respond 429 after too many requests, also for an unknown email.
    """
    email_key = fields.email_key((await read_body(request))["email"])
    async with _rounded_response_time():
        await _send_link(request.app, client_of(request), email_key)
    return json_response({"message": SENT})


@contextlib.asynccontextmanager
async def _rounded_response_time() -> AsyncIterator[None]:
    """Extend the time of the block to a multiple of ``RESPONSE_TIME``, also if it raises."""
    clock = asyncio.get_running_loop().time
    started = clock()
    try:
        yield
    finally:
        due = started + math.ceil((clock() - started) / RESPONSE_TIME) * RESPONSE_TIME
        # The event loop rounds the time to wait up to a millisecond. The end of a sleep alone would
        # depend on its begin.
        await asyncio.sleep(due - TIMER_RESOLUTION - clock())
        while clock() < due:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def _send_link(app: web.Application, client: Client, email_key: str) -> None:
    """Queue a mail with a link, if an account has the email. Otherwise do the same work."""
    database, settings = app[DATABASE], app[SETTINGS]
    unknown_id = unknown_account_id(email_key)
    account = await sql.reset.find_account(
        database,
        email_key=email_key,
        unknown_id=unknown_id,
        ip_key=client.ip_key,
        known_ttl=settings.known_address_ttl,
    )
    account_id = account["id"]
    await app[THROTTLE].admit_reset_request(client, account_id, is_known_ip=account["is_known_ip"])

    async def queue_link(connection: sql.Connection) -> None:
        await sql.sessions.lock_user(connection, user_id=account_id)
        # The email may have been changed since the first query. A locked account gets no link.
        user = await sql.email_verification.find(connection, user_id=account_id)
        if user is not None and user["email_key"] == email_key and user["locked_at"] is None:
            user_id, recipient = account_id, user["email"]
        else:
            user_id, recipient = None, NO_RECIPIENT
        # Without a user neither token nor mail is inserted, but the statements run.
        token = await one_time_tokens.issue(
            connection,
            Purpose.RESET_PASSWORD,
            user_id or unknown_id,
            email=recipient,
            email_key=email_key,
        )
        await queue_reset_email(connection, client, recipient, token, settings=settings)
        kind = EventKind.PASSWORD_RESET_REQUESTED
        await write_event(connection, client, kind, user_id=user_id)

    await database.transact(queue_link)


@routes.get(
    "/api/auth/reset-password",
    operation_id="GetPasswordResetPage",
    auth=Auth.NONE,
    query=LINK_QUERY,
    pages=True,
    responses=PAGE_RESPONSES,
    errors=PAGE_ERRORS,
)
async def show(request: web.Request) -> web.StreamResponse:
    """Get the page of the link that resets the password.

    The page has the form. Opening it changes nothing.
    """
    token = link_token(request)
    row = await _find(request.app[DATABASE], token)
    return _form(request, row["email"], token)


@routes.post(
    "/api/auth/reset-password",
    operation_id="ResetPassword",
    auth=Auth.NONE,
    body=BODY,
    pages=True,
    responses=result_responses(RESET),
    errors=(*LINK_ERRORS, TooManyAttempts("password", retry_after=60)),
)
async def reset(request: web.Request) -> web.StreamResponse:
    """Reset the password with the token of a mailed link.

    Respond 404 if the token is unknown or was used, and 410 if it has expired. All sessions and all
    other mailed links of the account end. The email is verified.
    """
    try:
        given = await read_body(request)
        await _reset(request.app, client_of(request), given["token"], given["new_password"])
    except (InvalidInput, TooManyAttempts, Unavailable) as error:
        if not is_form(request) or not set(error.errors) <= {"new_password", "password", "server"}:
            raise
        # Keep the person on the page. The token is well-formed: only other subjects have errors.
        token = (await form_fields(request))["token"]
        row = await _find(request.app[DATABASE], token)
        status = status_of(error, strict=request.app[SETTINGS].realworld_strict)
        return _form(request, row["email"], token, error=error, status=status)
    return result(request, "password_changed", RESET)


async def _find(database: Database, token: str) -> Any:
    """Return the row of a valid token about the current email of its user.

    Raise ``NotFound`` and ``LinkExpired`` as ``one_time_tokens.find`` does.
    """
    row = await one_time_tokens.find(database, Purpose.RESET_PASSWORD, token)
    user = await sql.email_verification.find(database, user_id=row["user_id"])
    if user is None or user["email"] != row["email"]:
        raise NotFound("token")
    return row


async def _reset(app: web.Application, client: Client, token: str, password: str) -> None:
    """Use ``token``: replace the password of its account. ``client`` is its owner."""
    database, throttle, attempts = app[DATABASE], app[THROTTLE], app[LOGIN_ATTEMPTS]
    user_id = (await _find(database, token))["user_id"]
    user = await sql.users.find_credentials(database, id=user_id)
    if user is None:
        raise NotFound("token")
    await app[PASSWORD_POLICY].require("new_password", password, user["username"], user["email"])
    await throttle.admit_password_reset(user_id)
    # Hash before the transaction: no connection is held while the hash waits for a thread.
    password_hash = await app[PASSWORDS].hash(password, requester_of(client, user_id))

    async def consume_and_reset(connection: sql.Connection) -> None:
        row = await one_time_tokens.consume(connection, Purpose.RESET_PASSWORD, token)
        before = await sql.email_verification.find(connection, user_id=user_id)
        if before is None or not await sql.reset.set_password(
            connection, user_id=user_id, email=row["email"], password_hash=password_hash
        ):
            raise NotFound("token")
        await sql.login_unlock.unlock(connection, user_id=user_id)
        if not before["ever_verified"]:
            # Another person may have registered this email. None of their ways in stays.
            await remove_second_factor(connection, client, user_id)
            await sql.passkeys.delete_all(connection, user_id=user_id)
            await sql.identities.delete_all(connection, user_id=user_id)
        # A stranger may have registered this email through a provider, and the owner of the email
        # has verified it since.
        await sql.identities.delete_unproved(connection, user_id=user_id)
        await write_event(connection, client, EventKind.PASSWORD_RESET, user_id=user_id)
        await sql.sessions.end_all(
            connection,
            user_id=user_id,
            reason=EventKind.PASSWORD_RESET,
            ip=client.ip,
            user_agent=client.user_agent,
            actor=client.actor,
        )
        await one_time_tokens.revoke(connection, user_id, REVOKED_BY_PASSWORD_CHANGE)
        await throttle.allow_reset_request(connection, user_id)
        # The owner logs in next, from this IP address. Failed logins must not prevent it.
        await known_ips.replace_all(connection, user_id, client.ip_key)
        await attempts.forget_failures(connection, user_id, client)
        await queue_notice(
            connection,
            client,
            "password_changed",
            user_id=user_id,
            email=row["email"],
            email_key=row["email_key"],
            throttle=throttle,
            settings=app[SETTINGS],
        )

    await database.transact(consume_and_reset)


def _form(
    request: web.Request,
    email: str,
    token: str,
    *,
    error: ApiError | None = None,
    status: int = 200,
) -> web.Response:
    """Return the page with the form, and with the ``error`` of the last use of the form."""
    headers = {} if error is None else error.headers
    policy = request.app[PASSWORD_POLICY]
    response = page(
        request,
        "reset_password",
        status=status,
        email=email,
        token=token,
        problem=None if error is None else _problem(error),
        shortest=policy.min_length,
        longest=policy.max_bytes,
        minutes=minutes_to_wait(headers),
    )
    response.headers.update(headers)
    return response


def _problem(error: ApiError) -> str:
    """Return the name by which the page knows ``error``."""
    if not isinstance(error, InvalidInput):
        return "try_again"
    (message, *_) = error.errors["new_password"]
    found = (name for start, name in PROBLEMS.items() if message.startswith(start))
    return next(found, "rejected")
