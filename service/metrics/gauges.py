"""The gauges of one worker, which it writes every second."""

import asyncio

from aiohttp import web

from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.sessions.authentication import SESSION_CACHE
from service.database.change_listener import CHANGE_LISTENER, clock
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.connections import Connections
from service.metrics import families
from service.metrics.shared_values import WorkerValues

INTERVAL = 1.0  # Seconds.


class WorkerGauges:
    """Read the state of ``app``, which has started, and write it to ``values``."""

    def __init__(
        self, values: WorkerValues, app: web.Application, connections: Connections
    ) -> None:
        self._database = app[DATABASE]
        self._queue = app[PASSWORDS].queue
        self._cache = app[SESSION_CACHE]
        self._listener = app[CHANGE_LISTENER]
        self._settings = app[SETTINGS]
        self._client_connections = connections
        self._heartbeat = values.gauge(families.HEARTBEAT)
        self._connections = values.gauge(families.CONNECTIONS)
        self._in_use = values.gauge(families.POOL_IN_USE)
        self._waiting = values.gauge(families.POOL_WAITING)
        self._users = values.gauge(families.CACHE_USERS)
        self._trusted = values.gauge(families.CACHE_TRUSTED)
        self._listener_heartbeat = values.gauge(families.LISTENER_HEARTBEAT)
        self._hashing = values.gauge(families.HASHES_RUNNING)
        self._logins = values.gauge(families.HASHES_WAITING, "login")
        self._other_hashes = values.gauge(families.HASHES_WAITING, "other")
        values.gauge(families.POOL_SIZE).set(self._database.size)
        values.gauge(families.HASH_THREADS).set(self._queue.threads)
        self._last_listener_heartbeat = clock()  # Until the first one comes back.

    def write(self) -> None:
        """Write the current state."""
        self._connections.set(len(self._client_connections))
        self._in_use.set(self._database.in_use)
        self._waiting.set(self._database.waiting)
        self._hashing.set(self._queue.running)
        self._logins.set(len(self._queue.logins))
        self._other_hashes.set(len(self._queue.others))
        if self._settings.user_cache_size:
            self._users.set(len(self._cache.users))
            self._trusted.set(float(self._listener.is_trusted()))
            if trusted_until := self._listener.trusted_until:
                sent = trusted_until - self._settings.user_cache_staleness
                self._last_listener_heartbeat = sent
            self._listener_heartbeat.set(self._last_listener_heartbeat)
        self._heartbeat.set(clock())

    async def keep_writing(self) -> None:
        """Write the state every ``INTERVAL`` seconds."""
        while True:
            self.write()
            await asyncio.sleep(INTERVAL)
