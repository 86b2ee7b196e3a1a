"""Write the emails to the owners of accounts.

Never include text that an attacker controls (username, user agent): they could send spam through
this service.
"""

import math
from datetime import UTC, datetime

import sql
from service.accounts.links import mailed_link
from service.accounts.one_time_tokens import DAY, HOUR, Purpose
from service.http.client import Client
from service.mail.message import Mail
from service.mail.outbox import write_mail
from service.settings.settings import Settings


def lockout_notice(recipient: str, client: Client, longest_wait: int, link: str) -> Mail:
    """Return the email about logins that are rejected because too many failed.

    ``client`` sent the last wrong password.
    ``longest_wait`` is the maximum duration of the rejection in seconds. ``link`` is the report
    link.
    """
    minutes = math.ceil(longest_wait / 60)
    values = {
        "time": format_time(datetime.now(UTC)),
        "ip": client.ip or "",
        "minutes": str(minutes),
        "link": link,
        "days": str(Purpose.REPORT.ttl // DAY),
    }
    return Mail(recipient, "lockout", client.language, values)


def format_time(time: datetime) -> str:
    """Return ``time``, which is in UTC, as mails show it: the same in every language."""
    return time.strftime("%Y-%m-%d %H:%M UTC")


async def queue_verification_email(
    connection: sql.Connection,
    client: Client,
    email: str,
    token: str,
    *,
    can_decline: bool,
    settings: Settings,
) -> None:
    """Queue the email with the link that verifies ``email``. ``client`` has caused it.

    ``can_decline`` says whether the page of the link offers to delete the account.
    """
    values = {
        "time": format_time(datetime.now(UTC)),
        "ip": client.ip or "",
        "link": mailed_link(settings, "verify-email", token),
        "hours": str(Purpose.VERIFY_EMAIL.ttl // HOUR),
        "can_decline": "yes" if can_decline else "",
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
