"""Keep mails in PostgreSQL until a mail server accepts them.

A mail is inserted in the transaction that causes it. If that transaction is rolled back, the mail
is not sent. If it is committed, no crash loses the mail. A mail may be sent twice: when the
server's reply is lost, or when the process crashes between the reply and the update of the row.
Both copies have the same Message-ID.

Every process polls the table, so that a mail leaves within a second. ``docs/decisions/outbox.md``
says why there is no notification, and why a claim is a lease.
"""

import asyncio
import contextlib
import logging
from typing import Any

import orjson
from aiohttp import web

import sql
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import Database
from service.mail.message import (
    Mail,
    Mailer,
    MailServerUnavailable,
    PermanentMailError,
    TemporaryMailError,
)
from service.mail.templates import Templates

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.5  # Seconds between two checks for due mails, when none was due.
CONCURRENCY = 4  # Mails that one process sends at the same time, each on its own connection.
LEASE = 60  # Seconds that a claimed mail is not due. It must be longer than one attempt can take.
PAUSE = 5  # Seconds after the first attempt that the server rejected temporarily.
MAX_PAUSE = 3600  # Seconds between two attempts, at most.
OUTAGE_PAUSE = 1.0  # Seconds without attempts after the server could not be reached.
MAX_OUTAGE_PAUSE = 30.0  # The same, after several failures in a row.
LIFETIME = 4 * 86_400  # Seconds. RFC 5321, section 4.5.4.1: give up after four or five days.
DRAIN_TIMEOUT = 2.0  # Seconds to finish the current mails when the service stops.
SENT_TTL = 86_400  # Seconds to keep the row of a sent mail.
REFUSED_TTL = 30 * 86_400  # Seconds to keep a mail that was rejected or given up.

NO_RECIPIENT = ""
"""The recipient of a mail that is neither stored nor sent.

The statement runs all the same: writing this mail takes as long as writing one to a recipient.
"""


async def write_mail(connection: sql.Connection, mail: Mail) -> None:
    """Queue ``mail``. It is sent after the transaction of ``connection`` is committed."""
    await sql.outbox.write(
        connection,
        recipient=mail.recipient,
        template=mail.template,
        language=mail.language,
        values=orjson.dumps(mail.values).decode(),
    )


class Outbox:
    """Send due mails, ``CONCURRENCY`` at a time.

    Every process may do so, and none waits for another. A slow recipient delays no other mail
    until ``CONCURRENCY`` recipients are slow.
    """

    def __init__(self, database: Database, mailer: Mailer, templates: Templates) -> None:
        self._database = database
        self._mailer = mailer
        self._templates = templates
        self._is_stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._deliveries: set[asyncio.Task[None]] = set()
        # While the server is unreachable, mails stay due and this process makes a pause. Then all
        # of them are sent soon after the server is back, however long it was away.
        self._outage_pause = 0.0  # Seconds. 0 means that the server was reached last time.
        self.outage_pause_ends = 0.0
        """A time on the event loop's clock. Until then no mail is claimed."""

    def start(self) -> None:
        """Send mails in the background until ``stop`` is called."""
        self._task = asyncio.create_task(self._keep_sending())

    async def stop(self) -> None:
        """Stop sending. Wait up to ``DRAIN_TIMEOUT`` seconds for the current mails."""
        self._is_stopping.set()
        tasks = {*self._deliveries, *([self._task] if self._task is not None else [])}
        if tasks:
            await asyncio.wait(tasks, timeout=DRAIN_TIMEOUT)
        # The dispatcher may have started another delivery during the wait.
        for task in tasks | self._deliveries:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def claim(self) -> Any:
        """Return the row of the mail that has been due the longest, or ``None``.

        No other process claims it for ``LEASE`` seconds.
        """
        return await sql.outbox.claim(self._database, lease=LEASE, lifetime=LIFETIME)

    async def measure(self) -> Any:
        """Return how many mails wait, and the age of the oldest in seconds, as a row."""
        # A pool full of slow statements must not delay this, and this must not delay requests.
        return await sql.outbox.measure(self._database.reserved)

    async def deliver(self, row: Any) -> None:
        """Try to send the mail of a row that ``claim`` returned, and record the result.

        Refuse the mail if the server permanently rejects it, or if it is older than ``LIFETIME``.
        """
        mail_id = row["id"]
        try:
            mail = Mail(
                row["recipient"], row["template"], row["language"], orjson.loads(row["values"])
            )
            message = self._templates.render(mail)
            await self._mailer.send(
                message, mail.recipient, mail_id=mail_id, written_at=row["created_at"]
            )
        except PermanentMailError as error:
            self._note_success()
            # The recipient is in the mail server's log. This log contains no email.
            logger.warning("mail rejected permanently: id=%s error=%s", mail_id, error)
            await sql.outbox.refuse(self._database, id=mail_id, error=str(error))
        except TemporaryMailError as error:
            await self._retry_later(row, error, str(error))
        except Exception as error:
            logger.exception("mail failed, retrying later: id=%s", mail_id)
            await self._retry_later(row, error, type(error).__name__)
        else:
            self._note_success()
            await sql.outbox.mark_sent(self._database, id=mail_id)

    async def _retry_later(self, row: Any, error: Exception, reason: str) -> None:
        """Keep the mail of ``row`` for a later attempt, or give it up after ``LIFETIME``."""
        mail_id, attempts = row["id"], row["attempts"]
        if isinstance(error, MailServerUnavailable):
            self._note_outage(error)
        if row["is_last_attempt"]:
            logger.error("mail given up after days of attempts: id=%s error=%s", mail_id, reason)
            await sql.outbox.refuse(self._database, id=mail_id, error=f"given up: {reason}")
        elif isinstance(error, MailServerUnavailable):
            await sql.outbox.release(self._database, id=mail_id, attempts=attempts, error=reason)
        else:
            if isinstance(error, TemporaryMailError):
                self._note_success()
                logger.info("mail postponed: id=%s error=%s", mail_id, reason)
            pause = min(PAUSE * 2 ** min(attempts - 1, 20), MAX_PAUSE)
            await sql.outbox.postpone(
                self._database, id=mail_id, attempts=attempts, pause=pause, error=reason
            )

    async def _keep_sending(self) -> None:
        """Claim a mail whenever a slot is free, and deliver it in a task."""
        while True:
            await self._slots.acquire()
            if self._is_stopping.is_set():
                return
            row = None
            try:
                if asyncio.get_running_loop().time() >= self.outage_pause_ends:
                    row = await self.claim()
            except DatabaseUnavailable:
                pass  # The pool has logged it.
            except Exception:
                logger.exception("outbox failed, trying again")
            if row is not None:
                task = asyncio.create_task(self._deliver_in_slot(row))
                self._deliveries.add(task)
                task.add_done_callback(self._deliveries.discard)
                continue
            self._slots.release()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL):
                    await self._is_stopping.wait()

    async def _deliver_in_slot(self, row: Any) -> None:
        try:
            await self.deliver(row)
        except DatabaseUnavailable:
            pass  # The pool has logged it. The mail is due again when its lease ends.
        except Exception:
            logger.exception("outbox failed, trying again")
        finally:
            self._slots.release()

    def _note_outage(self, error: MailServerUnavailable) -> None:
        now = asyncio.get_running_loop().time()
        if not self._outage_pause:
            logger.warning("mail delivery delayed: error=%s", error)
        # The deliveries that were running fail with the first one. They are no further failures.
        if now >= self.outage_pause_ends:
            self._outage_pause = min(max(OUTAGE_PAUSE, 2 * self._outage_pause), MAX_OUTAGE_PAUSE)
            self.outage_pause_ends = now + self._outage_pause

    def _note_success(self) -> None:
        if self._outage_pause:
            self._outage_pause = self.outage_pause_ends = 0.0
            logger.info("mail delivery resumed")


OUTBOX = web.AppKey("outbox", Outbox)
