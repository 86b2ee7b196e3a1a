"""The outbox: mails wait in PostgreSQL until a mail server has taken them.

A mail is written in the transaction that causes it: what is rolled back is not sent, and what is
committed is not lost, whatever crashes. It may be sent twice, when the server's answer is lost or a
crash comes between it and the removal of the row; both copies have one Message-ID.
"""

import asyncio
import contextlib
import logging

from aiohttp import web

import sql
from service.database.pool import Database, DatabaseUnavailable
from service.mail.smtp import Mail, Mailer, PermanentMailError, TemporaryMailError

logger = logging.getLogger(__name__)

POLL = 1.0  # Seconds between two looks for mails that are due.
PAUSE = 60  # Seconds after the first try; more than one try can take.
LONGEST_PAUSE = 3600
LIFETIME = 4 * 86_400  # RFC 5321, section 4.5.4.1: give up after four or five days.
DRAIN_TIMEOUT = 2.0  # Seconds that the mail in hand gets when the service ends.

NO_RECIPIENT = ""
"""The recipient of a mail that is not sent: writing it takes as long as one to somebody."""


async def write_mail(connection: sql.Connection, mail: Mail) -> None:
    """Have ``mail`` sent once the transaction of ``connection`` is committed."""
    await sql.outbox.write(
        connection, recipient=mail.recipient, subject=mail.subject, body=mail.text
    )


class Outbox:
    """Sends what is due, one mail at a time; every process may, and none waits for another."""

    def __init__(self, database: Database, mailer: Mailer) -> None:
        self._database = database
        self._mailer = mailer
        self._ends = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._waits = False  # Mails are delayed, and somebody was told.

    def start(self) -> None:
        """Begin to send, and go on until ``stop``."""
        self._task = asyncio.create_task(self._send_for_ever())

    async def stop(self) -> None:
        """Let the mail in hand be sent, for a moment, and send no more."""
        self._ends.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=DRAIN_TIMEOUT)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def send_next(self) -> bool:
        """Try the mail that is due for longest; whether there was one and it was taken.

        A mail that is refused for good, or for ``LIFETIME`` seconds, is given up.
        """
        row = await sql.outbox.claim(
            self._database, pause=PAUSE, longest_pause=LONGEST_PAUSE, lifetime=LIFETIME
        )
        if row is None:
            return False
        mail = Mail(row["recipient"], row["subject"], row["body"])
        try:
            await self._mailer.send(mail, mail_id=row["id"], written_at=row["created_at"])
        except PermanentMailError as refused:
            # Whose mail it was, the mail server's log tells; ours keeps no addresses.
            logger.warning("The mail %s was refused for good: %s", row["id"], refused)
        except TemporaryMailError as delayed:
            self._note_delay(delayed)
            if not row["is_last_try"]:
                return False
            logger.error("The mail %s is given up after days of trying", row["id"])
        else:
            self._note_success()
        await sql.outbox.remove(self._database, id=row["id"])
        return True

    async def _send_for_ever(self) -> None:
        while not self._ends.is_set():
            sent = False
            try:
                sent = await self.send_next()
            except DatabaseUnavailable:
                pass  # The pool has told.
            except Exception:
                logger.exception("a mail could not be sent; it is tried again later")
            if not sent:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL):
                        await self._ends.wait()

    def _note_delay(self, delayed: TemporaryMailError) -> None:
        if not self._waits:
            self._waits = True
            logger.warning("Mails cannot be sent now and wait: %s", delayed)

    def _note_success(self) -> None:
        if self._waits:
            self._waits = False
            logger.info("Mails are sent again")


OUTBOX = web.AppKey("outbox", Outbox)
