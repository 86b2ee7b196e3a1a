"""Tell the owner of an account by mail what happened to it, with a link "This was not me".

A notice is queued in the transaction that causes it. It goes to the email that the account had
before, because a thief may have changed it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import sql
from service.accounts.emails import format_time, lockout_notice
from service.accounts.one_time_tokens import DAY, Purpose
from service.accounts.reports import issue_report_link
from service.accounts.throttling.throttle import Throttle
from service.http.client import Client
from service.mail.message import Mail
from service.mail.outbox import NO_RECIPIENT, write_mail
from service.settings.settings import Settings


async def queue_notice(
    connection: sql.Connection,
    client: Client,
    template: str,
    *,
    user_id: UUID,
    email: str,
    email_key: str,
    throttle: Throttle,
    settings: Settings,
    data: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
) -> None:
    """Queue the notice ``template`` to ``email``, at a limited rate. ``client`` has caused it.

    ``email`` is the one before the change. ``data`` names what a report removes. ``values`` are
    further values of the template. The transaction of ``connection`` must hold the lock on the
    user's row.
    """
    if not await throttle.admit_notice(connection, template, user_id, email_key):
        return
    link = await issue_report_link(
        connection,
        user_id,
        email=email,
        email_key=email_key,
        notice=template,
        settings=settings,
        data=data,
    )
    all_values = {
        **(values or {}),
        "time": format_time(datetime.now(UTC)),
        "ip": client.ip or "",
        "link": link,
        "days": str(Purpose.REPORT.ttl // DAY),
    }
    await write_mail(connection, Mail(email, template, client.language, all_values))


async def queue_sign_in_notice(
    connection: sql.Connection,
    client: Client,
    user_id: UUID,
    *,
    throttle: Throttle,
    settings: Settings,
) -> None:
    """Queue a notice of a login with another device or from another IP address.

    Call this in the transaction that opens the session. It must hold the lock on the user's row.
    """
    user = await sql.email_verification.find(connection, user_id=user_id)
    if user is not None:
        await queue_notice(
            connection,
            client,
            "new_sign_in",
            user_id=user_id,
            email=user["email"],
            email_key=user["email_key"],
            throttle=throttle,
            settings=settings,
        )


async def queue_lockout_email(
    connection: sql.Connection,
    client: Client,
    account_id: UUID,
    *,
    throttle: Throttle,
    settings: Settings,
) -> None:
    """Queue the email that informs the owner about rejected logins, at a limited rate.

    ``client`` sent the last wrong password. ``account_id`` is the id under which ``throttle``
    counts the attempts: a user, or an email without a user. The email is inserted in the
    transaction of ``connection``.
    """
    # Check the limit for unknown emails too: timing must not reveal whether the account exists.
    if not await throttle.admit_lockout_email(connection, account_id):
        return
    await sql.sessions.lock_user(connection, user_id=account_id)
    # The email may have been changed since the password was verified. A thief whose email a report
    # has replaced must not get a link.
    user = await sql.email_verification.find(connection, user_id=account_id)
    recipient = user["email"] if user is not None else NO_RECIPIENT
    # Without a user neither token nor mail is inserted, but the statements run.
    link = await issue_report_link(
        connection,
        account_id,
        email=recipient,
        email_key=user["email_key"] if user is not None else NO_RECIPIENT,
        notice="lockout",
        settings=settings,
    )
    longest_wait = max(limit.seconds for limit in settings.login_limits)
    await write_mail(connection, lockout_notice(recipient, client, longest_wait, link))
