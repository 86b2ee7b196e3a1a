"""Limits on failed logins, registrations, refreshes and password changes, for all processes.

OWASP Authentication Cheat Sheet, "Login Throttling": failures count against the account as well as
the IP address, because an attacker has many IP addresses. NIST SP 800-63B, section 5.2.2, allows at
most 100 consecutive failures on one account. The default limit here is 50 an hour, from all IP
addresses together except those known for the user.

An attempt is counted as *pending* before its password is verified. Afterwards it becomes a failure
or is released. So a thousand simultaneous guesses verify no more than the limit of five. While
pending attempts fill the limit, further attempts wait, so that correct logins cause no rejection.

Windows are fixed and begin with the first attempt. In the worst case this allows twice the limit
around the end of a window. In return the count is exact, and so is the ``Retry-After`` header.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5
from weakref import WeakValueDictionary

from aiohttp import web

import sql
from service.accounts.passwords.hasher import too_busy
from service.database.pool import Database, DatabaseUnavailable
from service.http.client import address_key, site_key
from service.http.errors import TooManyAttempts
from service.settings.rate_limit import Limit
from service.settings.settings import Settings

PATIENCE = 30.0  # Seconds to wait for the outcome of pending attempts.
PAUSE = 0.05  # Seconds between two polls for it.
LEASE = 120.0  # Seconds that an attempt counts as pending: longer than a full queue takes.
MAX_HASH_SECONDS = 20.0  # Seconds of the lease for the hash itself, on a busy machine.

SITE_FACTOR = 8
"""The limit of an IPv6 /48, as a multiple of the limit of one IP address.

A customer with a /48 gets as much as eight IPv4 addresses. Without this limit they would get 65,536
times the limit of a /64. A lower factor would hurt the customers of providers that put many of them
into one /48: up to 256 with a /56 each. Larger networks are not counted: a /46 has the limits of
four /48s, and a /32 those of 65,536. Against them only the limit of each account remains.
"""


class Attempt:
    """An admitted login. Call ``fail`` or ``succeed`` after the password was verified.

    ``verify_deadline``, on the clock of ``time.monotonic``, is the latest time to begin the
    verification. An attempt counts as pending for a limited time only: a later verification would
    be a guess that no limit counts.
    """

    def __init__(self, database: Database, keys: "LoginKeys", windows: dict[bytes, datetime]):
        self._database = database
        self._keys = keys
        self._reserved = {"keys": list(windows), "windows": list(windows.values())}
        self._is_failure = False
        self._is_settled = not windows
        self.verify_deadline = time.monotonic() + LEASE - MAX_HASH_SECONDS

    async def fail(self, write_events: Callable[[sql.Connection, bool], Awaitable[None]]) -> None:
        """Count a wrong password, in one transaction with ``write_events``.

        ``write_events`` receives the transaction's connection, and whether this failure reached a
        limit of the account. This is true once per window, for the failure after which every
        attempt is rejected. ``write_events`` may run twice: see ``Database.transact``.
        """

        async def count_and_write(connection: sql.Connection) -> None:
            await write_events(connection, await self._count(connection))

        # From here on the attempt is a failure, even if the transaction fails.
        self._is_failure = True
        await self._database.transact(count_and_write)
        self._is_settled = True

    async def succeed(self) -> None:
        """Record a correct password, and reset this account's failures at this IP address.

        The attempt is released. The failures of the IP address and those of the account stay.
        Otherwise an attacker would get more guesses after a login to their own account, or after a
        login of the owner.
        """
        if not self._is_settled:
            self._is_settled = True
            await sql.throttle.succeed(self._database, pair_key=self._keys.pair, **self._reserved)

    async def end(self) -> None:
        """Release or count an attempt that is neither released nor counted yet.

        An attempt is released if its password was not verified (no free thread, no connection to
        the database). A wrong password is counted, also if the transaction of ``fail`` has failed.
        """
        if self._is_settled:
            return
        # If the database is unavailable, the attempt expires with its lease.
        with contextlib.suppress(DatabaseUnavailable):
            if self._is_failure:
                await self._count(self._database)
            # After the deadline it may have expired: this would release another attempt.
            elif time.monotonic() <= self.verify_deadline:
                await sql.throttle.give_back(self._database, **self._reserved)

    async def _count(self, db: Database | sql.Connection) -> bool:
        if not self._keys.limits:
            return False
        rows = await sql.throttle.fail(db, **self._reserved)
        return any(
            row["counted"] == self._keys.limits[row["key"]].most
            for row in rows
            if row["key"] in (self._keys.pair, self._keys.account)
        )


class LoginKeys:
    """The keys that a login is counted under. They are digests, also for unknown accounts.

    ``account_id`` is the user's id, so that a change of email or username does not begin a new
    count. For an email without a user it is ``unknown_account_id`` of the email.
    """

    def __init__(
        self, account_id: UUID, client_address: str, limits: tuple[Limit, Limit, Limit]
    ) -> None:
        self.account_id = account_id
        self.address_key = address_key(client_address)
        self.pair = digest("login pair", str(account_id), self.address_key)
        self.account = digest("login account", str(account_id))
        pair, address, account = limits
        by_address = _by_address("login address", client_address, address)
        self.address, *site = by_address
        # These limits do not apply at a known IP address of the user. There, neither strangers nor
        # others in the same network can lock the owner out.
        self.wide = [self.account, *site]
        keys = {self.pair: pair, self.account: account, **by_address}
        self.limits = {key: limit for key, limit in keys.items() if limit.most > 0}


class Throttle:
    """Count attempts in PostgreSQL, and reject those past the limits of ``settings``."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        # Attempts that wait for the same key share a lock: only its holder polls the database.
        self._lines: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def attempt(self, account_id: UUID, client_address: str) -> AsyncIterator[Attempt]:
        """Admit a login, or reject it before its password is hashed.

        The caller must verify the password of the user ``account_id`` and of no other user. The
        email may have moved to another user after the look-up, and the failures of its new owner
        would not count. An attempt that ends without ``fail`` or ``succeed`` is released.

        Raises ``TooManyAttempts`` past a limit, ``Unavailable`` when pending attempts fill the
        limit for too long, and ``DatabaseUnavailable``.
        """
        keys = LoginKeys(account_id, client_address, self._settings.login_limits)
        attempt = Attempt(self._database, keys, await self._reserve(keys))
        try:
            yield attempt
        finally:
            await attempt.end()

    async def admit_registration(self, client_address: str) -> None:
        """Count a registration, or a change of username or email.

        The response to such a change also reveals whether a value is taken. Raises
        ``TooManyAttempts`` past ``REGISTRATION_LIMIT``.
        """
        limit = self._settings.registration_limit
        await self._admit("registration", _by_address("registration", client_address, limit))

    async def admit_conflict(self, client_address: str) -> dict[bytes, datetime]:
        """Count, in advance, a response that says that an email or username is taken.

        Return the counted windows, for ``release_conflict``. Raises ``TooManyAttempts`` past
        ``CONFLICT_LIMIT``, with the message of a registration.
        """
        limit = self._settings.conflict_limit
        return await self._admit("registration", _by_address("conflict", client_address, limit))

    async def release_conflict(self, counted: dict[bytes, datetime]) -> None:
        """Release what ``admit_conflict`` counted in advance, because no value was taken."""
        if counted:
            # If the database is unavailable, the conflict counts until its window ends.
            with contextlib.suppress(DatabaseUnavailable):
                await sql.throttle.release_admitted(
                    self._database, keys=list(counted), windows=list(counted.values())
                )

    async def admit_refresh(self, client_address: str) -> None:
        """Count a refresh. Raises ``TooManyAttempts`` past ``REFRESH_LIMIT``."""
        limit = self._settings.refresh_limit
        await self._admit("refresh", _by_address("refresh", client_address, limit))

    async def admit_password_change(self, user_id: UUID) -> None:
        """Count a password change. Raises ``TooManyAttempts`` past ``PASSWORD_CHANGE_LIMIT``."""
        key = digest("password change", str(user_id))
        await self._admit("password", {key: self._settings.password_change_limit})

    async def admits_lockout_mail(self, connection: sql.Connection, account_id: UUID) -> bool:
        """Return whether a lockout email may be sent to the owner, and count it.

        Not every lockout sends an email: at most one in ``LOCKOUT_MAIL_INTERVAL`` seconds, or none
        if that is 0.
        """
        interval = self._settings.lockout_mail_interval
        if interval == 0:
            return False
        row = await sql.throttle.admit(
            connection, key=digest("lockout mail", str(account_id)), most=1, seconds=interval
        )
        return bool(row["admitted"])

    async def _admit(self, subject: str, counters: dict[bytes, Limit]) -> dict[bytes, datetime]:
        """Count a request under each of ``counters``, and return the window of each.

        Raises ``TooManyAttempts``, with the key ``subject``, past a limit.
        """
        counted: dict[bytes, datetime] = {}
        # The /64 comes first: a request that it rejects does not count against others in its /48.
        for key, (most, seconds) in counters.items():
            if most == 0:
                continue
            row = await sql.throttle.admit(self._database, key=key, most=most, seconds=seconds)
            if not row["admitted"]:
                raise TooManyAttempts(subject, retry_after=row["retry_after"])
            counted[key] = row["ends_at"]
        return counted

    async def _reserve(self, keys: LoginKeys) -> dict[bytes, datetime]:
        """Count the attempt as pending, and return the window of each key it is counted under."""
        if not keys.limits:
            return {}
        rows = await self._try(keys)
        if not _is_admitted(rows):
            rows = await self._wait(keys, rows[0]["key"])
        return {row["key"]: row["ends_at"] for row in rows}

    async def _wait(self, keys: LoginKeys, blocked: bytes) -> Any:
        """Retry until a pending attempt makes room, or until failures alone fill a limit."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            lock = self._lines.setdefault(blocked, asyncio.Lock())
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

        Attempts that wait on another key use another queue.
        """
        # No timeout here: cancelling a statement could leave its attempt counted.
        while True:
            rows = await self._try(keys)
            if _is_admitted(rows) or blocked not in {row["key"] for row in rows}:
                return rows
            if asyncio.get_running_loop().time() >= deadline:
                raise too_busy()
            await asyncio.sleep(PAUSE)

    async def _try(self, keys: LoginKeys) -> Any:
        rows = await sql.throttle.reserve(
            self._database,
            keys=list(keys.limits),
            most=[limit.most for limit in keys.limits.values()],
            seconds=[limit.seconds for limit in keys.limits.values()],
            wide_keys=keys.wide,
            account_id=keys.account_id,
            address_key=keys.address_key,
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


def digest(kind: str, *parts: str) -> bytes:
    """Return the key of a counter: 16 bytes, however long the email is.

    No part contains a NUL, so different parts never give the same text.
    """
    text = "\0".join((kind, *parts))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _by_address(kind: str, client_address: str, limit: Limit) -> dict[bytes, Limit]:
    """Return the counters of an IP address under ``limit``, the narrower network first."""
    counters = {digest(kind, address_key(client_address)): limit}
    if site := site_key(client_address):
        counters[digest(kind, site)] = Limit(limit.most * SITE_FACTOR, limit.seconds)
    return counters


def _is_admitted(rows: Any) -> bool:
    return all(row["admitted"] for row in rows)


THROTTLE = web.AppKey("throttle", Throttle)
