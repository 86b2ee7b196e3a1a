"""Write the emails to the owners of accounts.

Never include text that an attacker controls (username, user agent): they could send spam through
this service.
"""

import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sql
from service.accounts.links import mailed_link
from service.accounts.one_time_tokens import HOUR, Purpose
from service.accounts.throttling.throttle import Throttle
from service.http.client import Client
from service.mail.message import Mail
from service.mail.outbox import NO_RECIPIENT, write_mail
from service.settings.settings import Settings


async def queue_lockout_email(
    connection: sql.Connection,
    client: Client,
    account_id: UUID,
    row: Any,
    *,
    throttle: Throttle,
    settings: Settings,
) -> None:
    """Queue the email that informs the owner about rejected logins, at a limited rate.

    ``client`` sent the last wrong password. ``account_id`` is the id under which ``throttle``
    counts the attempts. ``row`` is the user with this id, or ``None``. The email is inserted in the
    transaction of ``connection``.
    """
    # Check the limit for unknown emails too: timing must not reveal whether the account exists.
    if await throttle.admit_lockout_email(connection, account_id):
        longest_wait = max(limit.seconds for limit in settings.login_limits)
        recipient = row["email"] if row is not None else NO_RECIPIENT
        await write_mail(connection, lockout_notice(recipient, client, longest_wait))


def lockout_notice(recipient: str, client: Client, longest_wait: int) -> Mail:
    """Return the email about logins that are rejected because too many failed.

    ``client`` sent the last wrong password.
    ``longest_wait`` is the maximum duration of the rejection in seconds.
    """
    minutes = math.ceil(longest_wait / 60)
    values = {
        "time": format_time(datetime.now(UTC)),
        "ip": client.ip or "",
        "minutes": str(minutes),
    }
    return Mail(recipient, "lockout", client.language, values)


def format_time(time: datetime) -> str:
    """Return ``time``, which is in UTC, as mails show it: the same in every language."""
    return time.strftime("%Y-%m-%d %H:%M UTC")


async def queue_verification_email(
    connection: sql.Connection, client: Client, email: str, token: str, *, settings: Settings
) -> None:
    """Queue the email with the link that verifies ``email``. ``client`` has caused it."""
    values = {
        "time": format_time(datetime.now(UTC)),
        "ip": client.ip or "",
        "link": mailed_link(settings, "verify-email", token),
        "hours": str(Purpose.VERIFY_EMAIL.ttl // HOUR),
    }
    await write_mail(connection, Mail(email, "verify_email", client.language, values))


async def queue_reset_email(
    connection: sql.Connection, client: Client, recipient: str, token: str, *, settings: Settings
) -> None:
    """Queue the email with the link that resets the password. ``client`` has requested it.

    ``recipient`` is ``NO_RECIPIENT`` if the account does not exist.
    """
    values = {
        "time": format_time(datetime.now(UTC)),
        "ip": client.ip or "",
        "link": mailed_link(settings, "reset-password", token),
        "minutes": str(Purpose.RESET_PASSWORD.ttl // 60),
    }
    await write_mail(connection, Mail(recipient, "reset_password", client.language, values))


async def queue_email_change_email(
    connection: sql.Connection, client: Client, email: str, token: str, *, settings: Settings
) -> None:
    """Queue the mail to the new ``email`` with the link that changes it. ``client`` causes it."""
    values = {
        "time": format_time(datetime.now(UTC)),
        "ip": client.ip or "",
        "link": mailed_link(settings, "confirm-email-change", token),
        "hours": str(Purpose.CHANGE_EMAIL.ttl // HOUR),
    }
    await write_mail(connection, Mail(email, "change_email", client.language, values))
