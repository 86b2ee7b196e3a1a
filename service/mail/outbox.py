"""Keep mails in PostgreSQL until a mail server accepts them.

A mail is inserted in the transaction that causes it. If that transaction is rolled back, the mail
is not sent. If it is committed, no crash loses the mail. A mail may be sent twice: when the
server's reply is lost, or when the process crashes between the reply and the deletion of the row.
Both copies have the same Message-ID.
"""

import asyncio
import contextlib
import logging

from aiohttp import web

import sql
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import Database
from service.mail.message import Mail, Mailer, PermanentMailError, TemporaryMailError

logger = logging.getLogger(__name__)

POLL_INTERVAL = 1.0  # Seconds between two checks for due mails.
PAUSE = 60  # Seconds after the first attempt. It must be longer than one attempt can take.
MAX_PAUSE = 3600  # Seconds between two attempts, at most.
LIFETIME = 4 * 86_400  # Seconds. RFC 5321, section 4.5.4.1: give up after four or five days.
DRAIN_TIMEOUT = 2.0  # Seconds to finish the current mail when the service stops.

NO_RECIPIENT = ""
"""The recipient of a mail that is neither stored nor sent.

The statement runs all the same: writing this mail takes as long as writing one to a recipient.
"""


async def write_mail(connection: sql.Connection, mail: Mail) -> None:
    """Queue ``mail``. It is sent after the transaction of ``connection`` is committed."""
    await sql.outbox.write(
        connection, recipient=mail.recipient, subject=mail.subject, body=mail.text
    )


class Outbox:
    """Send due mails, one at a time. Every process may do so, and none waits for another."""

    def __init__(self, database: Database, mailer: Mailer) -> None:
        self._database = database
        self._mailer = mailer
        self._is_stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_delayed = False  # And the log says so.

    def start(self) -> None:
        """Send mails in the background until ``stop`` is called."""
        self._task = asyncio.create_task(self._keep_sending())

    async def stop(self) -> None:
        """Stop sending. Wait up to ``DRAIN_TIMEOUT`` seconds for the current mail."""
        self._is_stopping.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=DRAIN_TIMEOUT)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def send_next(self) -> bool:
        """Try to send the mail that has been due the longest.

        Give up a mail that the server permanently rejects, or that is older than ``LIFETIME``.
        Return whether a mail was sent or given up. Return ``False`` if no mail is due, or if it is
        delayed.
        """
        row = await sql.outbox.claim(
            self._database, pause=PAUSE, max_pause=MAX_PAUSE, lifetime=LIFETIME
        )
        if row is None:
            return False
        mail = Mail(row["recipient"], row["subject"], row["body"])
        try:
            await self._mailer.send(mail, mail_id=row["id"], written_at=row["created_at"])
        except PermanentMailError as error:
            # The recipient is in the mail server's log. This log contains no email.
            logger.warning("mail rejected permanently: id=%s error=%s", row["id"], error)
        except TemporaryMailError as error:
            self._note_delay(error)
            if not row["is_last_attempt"]:
                return False
            logger.error("mail given up after days of attempts: id=%s", row["id"])
        else:
            self._note_success()
        await sql.outbox.remove(self._database, id=row["id"])
        return True

    async def _keep_sending(self) -> None:
        while not self._is_stopping.is_set():
            sent = False
            try:
                sent = await self.send_next()
            except DatabaseUnavailable:
                pass  # The pool has logged it.
            except Exception:
                logger.exception("mail failed, retrying later")
            if not sent:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_INTERVAL):
                        await self._is_stopping.wait()

    def _note_delay(self, error: TemporaryMailError) -> None:
        if not self._is_delayed:
            self._is_delayed = True
            logger.warning("mail delivery delayed: error=%s", error)

    def _note_success(self) -> None:
        if self._is_delayed:
            self._is_delayed = False
            logger.info("mail delivery resumed")


OUTBOX = web.AppKey("outbox", Outbox)
