"""Lock the login of an account after many failures in a row, until its owner opens a mailed link.

NIST SP 800-63B-4, section 3.2.2: a verifier allows at most 100 failed attempts in a row on one
account. ``CONSECUTIVE_FAILURE_LIMIT`` sets the number. A login that succeeds begins a new count.

A locked login rejects every password, also the correct one, like a wrong password. So the response
does not reveal whether the account exists, whether it is locked, or whether a guess was right. The
owner gets a mail with a link, and another one with a later attempt, at most one in 12 hours. A
reset or a change of the password unlocks the login too. The IP addresses that are known for the
user are exempt: there failures do not count, and a locked login works. So no stranger can lock the
owner out there.
"""

from datetime import UTC, datetime
from uuid import UUID

from aiohttp import web

import sql
from service.accounts import one_time_tokens
from service.accounts.emails import format_time
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
from service.accounts.links import mailed_link
from service.accounts.one_time_tokens import HOUR, Purpose
from service.accounts.security_log import EventKind, write_event
from service.accounts.throttling import known_ips
from service.accounts.throttling.login_attempts import LOGIN_ATTEMPTS
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import Client, client_of
from service.http.routes import Auth, RouteTableDef
from service.mail.message import Mail
from service.mail.outbox import write_mail
from service.settings.settings import Settings

routes = RouteTableDef(tag="Accounts")

UNLOCKED = "The login is unlocked. Log in with your password."


async def queue_unlock_email(
    connection: sql.Connection, client: Client, user_id: UUID, *, settings: Settings
) -> None:
    """Queue the mail with the link that unlocks the login of a user.

    ``client`` sent the last wrong password. The transaction of ``connection`` must hold the lock on
    the user's row.
    """
    user = await sql.email_verification.find(connection, user_id=user_id)
    if user is None:
        return
    token = await one_time_tokens.issue(
        connection,
        Purpose.UNLOCK_LOGIN,
        user_id,
        email=user["email"],
        email_key=user["email_key"],
    )
    values = {
        "time": format_time(datetime.now(UTC)),
        "ip": client.ip or "",
        "failures": str(settings.consecutive_failure_limit),
        "link": mailed_link(settings, "unlock-login", token),
        "hours": str(Purpose.UNLOCK_LOGIN.ttl // HOUR),
    }
    await write_mail(connection, Mail(user["email"], "unlock_login", client.language, values))


@routes.get(
    "/api/auth/unlock-login",
    operation_id="GetLoginUnlockPage",
    auth=Auth.NONE,
    query=LINK_QUERY,
    pages=True,
    responses=PAGE_RESPONSES,
    errors=PAGE_ERRORS,
)
async def show(request: web.Request) -> web.StreamResponse:
    """Get the page of the link that unlocks the login.

    The page asks for a confirmation. Opening it changes nothing.
    """
    token = link_token(request)
    row = await one_time_tokens.find(request.app[DATABASE], Purpose.UNLOCK_LOGIN, token)
    failures = request.app[SETTINGS].consecutive_failure_limit
    return page(request, "unlock_login", email=row["email"], token=token, failures=failures)


@routes.post(
    "/api/auth/unlock-login",
    operation_id="UnlockLogin",
    auth=Auth.NONE,
    body=LINK_BODY,
    pages=True,
    responses=result_responses(UNLOCKED),
    errors=LINK_ERRORS,
)
async def unlock(request: web.Request) -> web.StreamResponse:
    """Unlock the login with the token of a mailed link.

    The IP address becomes a known one of the user: while an attack goes on, its owner can log in.
    The person has the mailbox of the account, with which they could also reset the password.
    Respond 404 if the token is unknown or was used, and 410 if it has expired.
    """
    token = (await read_body(request))["token"]
    client, attempts = client_of(request), request.app[LOGIN_ATTEMPTS]

    async def consume_and_unlock(connection: sql.Connection) -> None:
        row = await one_time_tokens.consume(connection, Purpose.UNLOCK_LOGIN, token)
        user_id = row["user_id"]
        await sql.login_unlock.unlock(connection, user_id=user_id)
        await one_time_tokens.revoke(connection, user_id, {Purpose.UNLOCK_LOGIN})
        # The owner logs in next, from this IP address.
        await known_ips.add(connection, user_id, client.ip_key)
        await attempts.forget_failures(connection, user_id, client)
        await write_event(connection, client, EventKind.LOGIN_UNLOCKED, user_id=user_id)

    await request.app[DATABASE].transact(consume_and_unlock)
    return result(request, "login_unlocked", UNLOCKED)
