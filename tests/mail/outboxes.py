"""Helpers of tests that queue mails and send them one by one."""

import asyncpg

from service.database.pool import Database
from service.mail.message import Mail
from service.mail.outbox import Outbox
from service.mail.smtp import create_mailer
from service.mail.templates import Templates
from service.settings.settings import Settings
from tests.mail.mail_server import MailServer

VALUES = {"time": "2026-11-24 08:00 UTC", "ip": "192.0.2.1", "minutes": "60"}


def mail_to(recipient: str) -> Mail:
    """Return a mail to ``recipient``."""
    return Mail(recipient, "lockout", "en", VALUES)


MAIL = mail_to("alice@example.test")


def outbox_of(database: Database, server: MailServer) -> Outbox:
    """Return an outbox that sends to ``server``. Its background task is not started."""
    settings = Settings(smtp_url=f"smtp://127.0.0.1:{server.port}", mail_from="us@example.org")
    return Outbox(database, create_mailer(settings), Templates(None, "example.org"))


async def send_next(outbox: Outbox) -> bool:
    """Try to send the mail that has been due the longest. Return whether there was one."""
    row = await outbox.claim()
    if row is not None:
        await outbox.deliver(row)
    return row is not None


async def make_due(db: asyncpg.Connection) -> None:
    """Let the pauses and the leases of all mails end."""
    await db.execute("update outbox set due_at = now()")


async def rows(db: asyncpg.Connection) -> list[tuple[str, int, str | None]]:
    """Return the state, the attempts and the last error of each mail, the oldest first."""
    found = await db.fetch("select state, attempts, error from outbox order by created_at, id")
    return [tuple(row) for row in found]
