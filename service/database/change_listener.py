"""Listen for changes that other processes commit, and know up to when none was missed.

The listener sends heartbeats to itself. PostgreSQL delivers notifications in the order of their
commits: when a heartbeat comes back, every notification that was committed before it has been
received. ``docs/decisions/cache-and-heartbeats.md`` says why heartbeats are sent through the pool
and on its reserved connection.
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
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.dsn import url_for_asyncpg
from service.database.pool import CONNECT_ERRORS, CONNECT_TIMEOUT, Database

logger = logging.getLogger(__name__)

HEARTBEATS_PER_WINDOW = 4  # Heartbeats within the time for which one of them is trusted.
RETRY_DELAY = 0.2  # Seconds before a lost connection is opened again.

# This clock also counts the time in which the machine is suspended, if the system has such a clock:
# after a suspension the cache is out of date.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Return the time on the clock of ``trusted_until``, in seconds."""
    return time.clock_gettime(_CLOCK)


class HeartbeatLost(Exception):
    """A heartbeat could not be sent, or did not come back."""


class ChangeListener:
    """Listen on one channel, and call back with each change.

    ``invalidate`` is called with the payload of each notification, ``clear`` when one may have been
    lost. Both run on the event loop and must be quick.
    """

    def __init__(
        self,
        database: Database,
        url: str,
        channel: str,
        staleness: float,
        invalidate: Callable[[str], None],
        clear: Callable[[], None],
    ) -> None:
        """Trust a heartbeat for ``staleness`` seconds after it was sent.

        Changes are made through ``database``. The listening connection is opened to ``url``.
        """
        self._database = database
        self._url = url
        self._channel = channel
        self._staleness = staleness
        self._invalidate = invalidate
        self._clear = clear
        self.own_channel = ""
        self.application_name = ""
        self._heartbeat: asyncio.Future[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_lost = False  # And the log says so.
        self.trusted_until = 0.0
        """A time on ``clock``. Until then the cache may be used: every change that was committed
        before the last heartbeat has been applied."""

    def is_trusted(self) -> bool:
        """Return whether every change up to a recent heartbeat has been applied."""
        return clock() < self.trusted_until

    def start(self) -> None:
        """Start listening, and reconnect whenever the connection is lost."""
        # Not before: forked workers that share a channel would take each other's heartbeats.
        # Every role of the database sees the name of the application, and may send to any channel.
        # The name must not reveal the channel.
        self.own_channel = f"heartbeat_{secrets.token_hex(16)}"
        self.application_name = f"listener_{secrets.token_hex(8)}"
        self._task = asyncio.create_task(self._keep_listening())

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def wait_until_applied(self) -> None:
        """Return once every change committed so far is applied, or the cache is disabled."""
        if self.is_trusted():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._wake.set()
            await waiter

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen()
            except (
                *CONNECT_ERRORS,
                asyncio.IncompleteReadError,
                DatabaseUnavailable,
                HeartbeatLost,
            ) as error:
                if not self._is_lost:
                    logger.warning(
                        "cache disabled: lost the LISTEN connection: error=%s: %s",
                        type(error).__name__,
                        error,
                    )
                self._is_lost = True
            except Exception:
                logger.exception("cache disabled: listening failed unexpectedly")
                self._is_lost = True
            finally:
                self.trusted_until = 0.0
                self._clear()
                self._release(self._waiters)
            await asyncio.sleep(RETRY_DELAY)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            url_for_asyncpg(self._url),
            timeout=CONNECT_TIMEOUT,
            server_settings={"application_name": self.application_name},
        )
        try:
            connection.add_termination_listener(lambda _: self._on_termination())
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.add_listener(self._channel, self._on_notification)
                await connection.add_listener(self.own_channel, self._on_heartbeat)
            while True:
                await self._send_heartbeat()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._staleness / HEARTBEATS_PER_WINDOW):
                        await self._wake.wait()
                self._wake.clear()
                if connection.is_closed():
                    # A heartbeat could only be lost, after the whole window.
                    raise HeartbeatLost("the listening connection ended")
        finally:
            connection.terminate()

    async def _send_heartbeat(self) -> None:
        waiters, self._waiters = self._waiters, []
        sent = clock()
        self._heartbeat = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._staleness):
                is_sent = await sql.change_listener.send_heartbeat(
                    self._database.reserved, channel=self.own_channel
                )
                if not is_sent:
                    raise HeartbeatLost("the server is read-only")
                await self._heartbeat
            if not self.is_trusted():
                # Rows read before this moment may be out of date without a notification to come,
                # and changes made while the cache was disabled waited for no heartbeat.
                self._clear()
            self.trusted_until = sent + self._staleness
            if self._is_lost:
                logger.info("cache enabled: listening again")
                self._is_lost = False
        finally:
            self._release(waiters)

    def _on_notification(self, _: Any, __: int, ___: str, payload: str) -> None:
        self._invalidate(payload)

    def _on_heartbeat(self, _: Any, __: int, ___: str, ____: str) -> None:
        if self._heartbeat is not None and not self._heartbeat.done():
            self._heartbeat.set_result(None)

    def _on_termination(self) -> None:
        """Clear the cache, because the server closed the connection."""
        self.trusted_until = 0.0
        self._clear()
        if self._heartbeat is not None and not self._heartbeat.done():
            self._heartbeat.set_exception(HeartbeatLost("the listening connection ended"))
            # Retrieved here: when the statement failed too, no task awaits the future.
            self._heartbeat.exception()
        self._wake.set()

    @staticmethod
    def _release(waiters: list[asyncio.Future[None]]) -> None:
        while waiters:
            waiter = waiters.pop()
            if not waiter.done():
                waiter.set_result(None)


CHANGE_LISTENER = web.AppKey("change_listener", ChangeListener)
