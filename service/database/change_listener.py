"""Hears what other processes changed (LISTEN), and knows for how long its hearing can be trusted.

A connection that fell silent looks like one on which nothing happens. So heartbeats are sent to it:
PostgreSQL delivers notifications in the order of their commits, so whoever hears its own heartbeat
has heard everything that was committed before.

They are sent through the pool, by which changes are made, and not on the listening connection
itself: that one would also hear itself behind a pooler that drops what others tell, or on a server
that is no longer the one that takes the changes.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

import asyncpg
from aiohttp import web

import sql
from service.database.dsn import url_for_asyncpg
from service.database.pool import CONNECT_TIMEOUT, UNREACHABLE, Database, DatabaseUnavailable

logger = logging.getLogger(__name__)

BEATS = 4  # Heartbeats within the time that hearing is trusted for.
PAUSE = 0.2  # Seconds before a lost connection is made again.

# A machine that was suspended must not believe what it remembers: where the system has it, this
# clock goes on while the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """The clock of ``trusted_until``, in seconds."""
    return time.clock_gettime(_CLOCK)


class NotHeard(Exception):
    """A heartbeat was not sent to the server that listens, or did not come back."""


class Notifications:
    """Listens on one channel; ``trusted_until`` says how far what it heard is complete.

    ``hear`` is called with each payload, ``forget`` whenever something may have been missed: both
    on the event loop, and both must be quick.
    """

    def __init__(
        self,
        database: Database,
        url: str,
        channel: str,
        staleness: float,
        hear: Callable[[str], None],
        forget: Callable[[], None],
    ) -> None:
        """``staleness`` is for how many seconds after a heartbeat was sent it counts.

        ``database`` is where changes are made, ``url`` where it is listened.
        """
        self._database = database
        self._url = url
        self._channel = channel
        self._staleness = staleness
        self._hear = hear
        self._forget = forget
        identity = secrets.token_hex(8)
        self.own_channel = f"heartbeat_{identity}"
        self.application_name = f"listener_{identity}"
        self._beat: asyncio.Future[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_lost = False  # And somebody was told.
        self.trusted_until = 0.0
        """On ``clock``: until then, all that was committed before the last heartbeat has been
        heard."""

    def is_trusted(self) -> bool:
        """Whether what was heard is complete, up to the moment of a recent heartbeat."""
        return clock() < self.trusted_until

    def start(self) -> None:
        """Begin to listen, and listen again whenever the connection is lost."""
        self._task = asyncio.create_task(self._keep_listening())

    async def stop(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def catch_up(self) -> None:
        """Return once everything committed so far was heard, or hearing is not trusted anyway."""
        if self.is_trusted():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            self._wake.set()
            await waiter

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen()
            except (
                *UNREACHABLE,
                asyncio.IncompleteReadError,
                DatabaseUnavailable,
                NotHeard,
            ) as error:
                if not self._is_lost:
                    logger.warning("listening was lost, every request asks: %s", error)
                self._is_lost = True
            except Exception:
                logger.exception("listening failed, every request asks")
                self._is_lost = True
            finally:
                self.trusted_until = 0.0
                self._forget()
                self._release(self._waiting)
            await asyncio.sleep(PAUSE)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            url_for_asyncpg(self._url),
            timeout=CONNECT_TIMEOUT,
            server_settings={"application_name": self.application_name},
        )
        try:
            connection.add_termination_listener(lambda _: self._lose())
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.add_listener(self._channel, self._on_notification)
                await connection.add_listener(self.own_channel, self._on_beat)
            while True:
                await self._send_beat()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._staleness / BEATS):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            connection.terminate()

    async def _send_beat(self) -> None:
        waiting, self._waiting = self._waiting, []
        sent = clock()
        self._beat = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._staleness):
                # It does not stand in line: the longer that is, the more requests would ask.
                database = self._database.spare
                if not await sql.notifications.send_beat(database, channel=self.own_channel):
                    raise NotHeard("the database only reads")
                await self._beat
            if not self.is_trusted():
                # What was asked before this moment may be old, and nobody would tell; and who
                # changed something while nothing was believed did not wait for the news of it.
                self._forget()
            self.trusted_until = sent + self._staleness
            if self._is_lost:
                logger.info("listening again")
                self._is_lost = False
        finally:
            self._release(waiting)

    def _on_notification(self, _: Any, __: int, ___: str, payload: str) -> None:
        self._hear(payload)

    def _on_beat(self, _: Any, __: int, ___: str, ____: str) -> None:
        if self._beat is not None and not self._beat.done():
            self._beat.set_result(None)

    def _lose(self) -> None:
        """The server ended the connection: what is remembered is worth nothing from now on."""
        self.trusted_until = 0.0
        self._forget()
        if self._beat is not None and not self._beat.done():
            self._beat.set_exception(NotHeard("the listening connection ended"))
            self._beat.exception()  # Seen: where the statement failed too, nobody awaits it.
        self._wake.set()

    @staticmethod
    def _release(waiting: list[asyncio.Future[None]]) -> None:
        while waiting:
            waiter = waiting.pop()
            if not waiter.done():
                waiter.set_result(None)


NOTIFICATIONS = web.AppKey("notifications", Notifications)
