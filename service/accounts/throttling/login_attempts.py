"""Limit failed logins per account and IP address, per IP address and per account.

OWASP Authentication Cheat Sheet, "Login Throttling": failures count against the account as well as
the IP address, because an attacker has many IP addresses. The default limit of one account is 50 an
hour, from all IP addresses together except those known for the user. Failures in a row are counted
too: ``service/accounts/login_unlock.py`` locks the login after 100 of them.

An attempt is counted as *in flight* before its password is verified. Afterwards it becomes a
failure or is released. So a thousand simultaneous guesses verify no more than the limit of five.
While attempts in flight fill a limit, further attempts wait: correct logins cause no rejection.
``docs/decisions/exact-throttling.md`` gives the reasons and the alternatives that were measured.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5
from weakref import WeakValueDictionary

from aiohttp import web

import sql
from service.accounts.passwords.hasher import too_busy
from service.accounts.throttling.throttle import digest, ip_counters
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import Database
from service.http.client import Client
from service.http.errors import TooManyAttempts
from service.settings.settings import Settings

MAX_WAIT = 30.0  # Seconds to wait for the outcome of attempts in flight.
POLL_INTERVAL = 0.05  # Seconds between two polls of one wait queue.
LEASE = 120.0  # Seconds that an attempt counts as in flight: longer than a full queue takes.
MAX_HASH_SECONDS = 20.0  # Seconds of the lease for the hash itself, on a busy machine.

UNLOCK_MAIL_INTERVAL = 12 * 3600
"""Minimum seconds between two mails that unlock one login.

A link works for a day. So whenever a locked login is rejected, its owner has a link that works for
12 hours more, and a stranger causes at most two mails a day.
"""


class Failure(NamedTuple):
    """What a wrong password has reached."""

    is_locked_out: bool
    """Whether it reached a limit of the account. This is true once per window, for the failure
    after which every attempt is rejected."""
    is_unlock_due: bool
    """Whether the login is locked, and the owner must get a mail that unlocks it."""


class Attempt:
    """An admitted login. Record its outcome after the password was verified."""

    def __init__(self, database: Database, keys: "LoginKeys", windows: dict[bytes, datetime]):
        """Start the lease. ``windows`` maps each key of the attempt to the end of its window."""
        self._database = database
        self._keys = keys
        self._reserved = {"keys": list(windows), "windows": list(windows.values())}
        self._is_failure = False
        self._is_settled = not windows and not keys.max_consecutive_failures
        self.verify_deadline = time.monotonic() + LEASE - MAX_HASH_SECONDS
        """The latest time to begin the verification, on the clock of ``time.monotonic``.

        After its lease an attempt is no longer in flight. To verify its password then would be a
        guess that no limit counts.
        """

    async def record_failure(
        self, write_events: Callable[[sql.Connection, Failure], Awaitable[None]]
    ) -> None:
        """Count a wrong password, in one transaction with ``write_events``.

        ``write_events`` receives the connection of the transaction and what the failure has
        reached. It may run twice: see ``Database.transact``.
        """

        async def count_and_write(connection: sql.Connection) -> None:
            # Count those in a row first: every transaction locks the user before the counters, so
            # that a failure and a reset of the password do not deadlock.
            is_unlock_due = await self._count_in_a_row(connection, UNLOCK_MAIL_INTERVAL)
            await write_events(connection, Failure(await self._count(connection), is_unlock_due))

        # From here on the attempt is a failure, even if the transaction fails.
        self._is_failure = True
        await self._database.transact(count_and_write)
        self._is_settled = True

    async def record_success(self) -> bool:
        """Record a correct password, and reset this account's failures at this IP address.

        The attempt is released, and the failures in a row are reset. The failures of the IP address
        and those of the account stay. Otherwise an attacker would get more guesses after a login to
        their own account, or after a login of the owner.

        Return whether the success counts. It does not if other attempts have locked the login since
        the password was read: then the caller must record a failure.
        """
        if self._is_settled:
            return True
        is_locked = await sql.login_attempts.record_success(
            self._database,
            pair_key=self._keys.pair,
            account_id=self._keys.account_id,
            ip_key=self._keys.ip_key,
            known_ttl=self._keys.known_ttl,
            max_failures=self._keys.max_consecutive_failures,
            **self._reserved,
        )
        self._is_settled = not is_locked
        return self._is_settled

    async def end(self) -> None:
        """Release or count an attempt that is neither released nor counted yet.

        An attempt is released if its password was not verified (no free thread, no connection to
        the database), or was right where a second factor is needed too. A wrong password is
        counted, also if the transaction of ``record_failure`` has failed.
        """
        if self._is_settled:
            return
        # If the database is unavailable, the attempt expires with its lease.
        with contextlib.suppress(DatabaseUnavailable):
            if self._is_failure:
                # No mail is queued here. It is due with the next failure.
                await self._count_in_a_row(self._database, mail_interval=None)
                await self._count(self._database)
            # After the deadline its lease may have ended: this would release another attempt.
            elif time.monotonic() <= self.verify_deadline:
                await sql.login_attempts.release(self._database, **self._reserved)

    async def _count_in_a_row(
        self, db: Database | sql.Connection, mail_interval: int | None
    ) -> bool:
        """Lock the user, and count a failure in a row.

        Return whether a mail that unlocks the login is due: it is not within ``mail_interval``
        seconds of the last one, and never if ``mail_interval`` is ``None``.
        """
        row = await sql.login_unlock.count_failure(
            db,
            user_id=self._keys.account_id,
            ip_key=self._keys.ip_key,
            known_ttl=self._keys.known_ttl,
            max_failures=self._keys.max_consecutive_failures,
            mail_interval=mail_interval,
        )
        return row is not None and row["is_mail_due"]

    async def _count(self, db: Database | sql.Connection) -> bool:
        """Count a failure, and return whether it reached a limit of the account."""
        if not self._keys.limits:
            return False
        rows = await sql.login_attempts.record_failure(db, **self._reserved)
        return any(
            row["failures"] == self._keys.limits[row["key"]].max_count
            for row in rows
            if row["key"] in (self._keys.pair, self._keys.account)
        )


class LoginKeys:
    """The keys that a login is counted under. They are digests, also for unknown accounts.

    ``account_id`` is the user's id, so that a change of email or username does not begin a new
    count. For an email without a user it is ``unknown_account_id`` of the email.
    """

    def __init__(self, account_id: UUID, client: Client, settings: Settings) -> None:
        self.account_id = account_id
        self.ip_key = client.ip_key
        self.known_ttl = settings.known_address_ttl
        self.max_consecutive_failures = settings.consecutive_failure_limit or None
        self.pair = _pair_key(account_id, client)
        self.account = digest("login account", str(account_id))
        pair_limit, ip_limit, account_limit = settings.login_limits
        by_ip = ip_counters("login ip", client, ip_limit)
        self.ip, *site = by_ip
        # The limits of these keys do not apply at a known IP address of the user. There, neither
        # strangers nor others in the same network can lock the owner out.
        self.wide = [self.account, *site]
        keys = {self.pair: pair_limit, self.account: account_limit, **by_ip}
        self.limits = {key: limit for key, limit in keys.items() if limit.max_count > 0}


class LoginAttempts:
    """Admit logins up to ``LOGIN_LIMITS``, for all processes together."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        # Attempts that wait for the same key share a lock: only its holder polls the database.
        self._wait_queues: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def admit(self, account_id: UUID, client: Client) -> AsyncIterator[Attempt]:
        """Admit a login, or reject it before its password is hashed.

        The caller must verify the password of the user ``account_id`` and of no other user. The
        email may have moved to another user after the look-up, and the failures of its new owner
        would not count. An attempt that ends without a recorded outcome is released.

        Raise ``TooManyAttempts`` past a limit, ``Unavailable`` when attempts in flight fill a limit
        for ``MAX_WAIT`` seconds, and ``DatabaseUnavailable``.
        """
        keys = LoginKeys(account_id, client, self._settings)
        attempt = Attempt(self._database, keys, await self._reserve(keys))
        try:
            yield attempt
        finally:
            await attempt.end()

    async def forget_failures(
        self, connection: sql.Connection, account_id: UUID, client: Client
    ) -> None:
        """Forget the failures of the account at the IP address of ``client``.

        After a password reset, the earlier wrong passwords must not lock the owner out.
        """
        await sql.throttle.lower_hits(connection, key=_pair_key(account_id, client), max_count=0)

    async def _reserve(self, keys: LoginKeys) -> dict[bytes, datetime]:
        """Count the attempt as in flight, and return the window of each of its keys."""
        if not keys.limits:
            return {}
        rows = await self._try(keys)
        if not _is_admitted(rows):
            rows = await self._wait(keys, rows[0]["key"])
        return {row["key"]: row["ends_at"] for row in rows}

    async def _wait(self, keys: LoginKeys, blocked: bytes) -> Any:
        """Retry until the attempt is admitted, and return its rows.

        ``blocked`` is the first key whose limit is full. Raise ``TooManyAttempts`` as soon as
        failures alone fill a limit.
        """
        deadline = asyncio.get_running_loop().time() + MAX_WAIT
        while True:
            lock = self._wait_queues.setdefault(blocked, asyncio.Lock())
            try:
                async with asyncio.timeout_at(deadline):
                    await lock.acquire()
            except TimeoutError:
                raise too_busy() from None
            try:
                rows = await self._poll_until_free(keys, blocked, deadline)
            finally:
                lock.release()
            if _is_admitted(rows):
                return rows
            blocked = rows[0]["key"]

    async def _poll_until_free(self, keys: LoginKeys, blocked: bytes, deadline: float) -> Any:
        """Poll until ``blocked`` has capacity.

        Return then even if the attempt is blocked by another key: attempts that wait on another key
        use another queue.
        """
        # No timeout here: cancelling a statement could leave its attempt counted.
        while True:
            rows = await self._try(keys)
            if _is_admitted(rows) or blocked not in {row["key"] for row in rows}:
                return rows
            if asyncio.get_running_loop().time() >= deadline:
                raise too_busy()
            await asyncio.sleep(POLL_INTERVAL)

    async def _try(self, keys: LoginKeys) -> Any:
        """Return a row for each key, or only the keys that block the attempt.

        Raise ``TooManyAttempts`` if failures alone fill the limit of a key.
        """
        rows = await sql.login_attempts.reserve(
            self._database,
            keys=list(keys.limits),
            max_counts=[limit.max_count for limit in keys.limits.values()],
            seconds=[limit.seconds for limit in keys.limits.values()],
            wide_keys=keys.wide,
            account_id=keys.account_id,
            ip_key=keys.ip_key,
            known_ttl=self._settings.known_address_ttl,
            lease=LEASE,
        )
        if waits := [row["retry_after"] for row in rows if row["refused"]]:
            raise TooManyAttempts("credentials", retry_after=max(waits))
        return rows


def unknown_account_id(email_key: str) -> UUID:
    """Return the id under which attempts on an email without a user are counted.

    It is a UUID of version 5. The ids of users have version 4, so it is never the id of a user. The
    same statements do the same work with it, and find no user.
    """
    return uuid5(NAMESPACE_URL, f"mailto:{email_key}")


def _pair_key(account_id: UUID, client: Client) -> bytes:
    return digest("login pair", str(account_id), client.ip_key)


def _is_admitted(rows: Any) -> bool:
    return all(row["admitted"] for row in rows)


LOGIN_ATTEMPTS = web.AppKey("login_attempts", LoginAttempts)
