"""Limits on failed logins, registrations, refreshes and password changes, shared by every process.

OWASP Authentication Cheat Sheet, "Login Throttling": failures count against the account as well as
the address, since an attacker has many addresses. NIST SP 800-63B, section 5.2.2: no more than 100
failures in a row on one account; here it is 50 an hour, whoever they come from.

An attempt is counted before its password is looked at, as *pending*, and becomes a failure or is
taken back afterwards: a thousand simultaneous guesses are no more than five. While those under way
fill the limit the rest wait for them, so that nobody is refused for logins that were right.

Windows are fixed and begin with the first attempt. In the worst case that allows twice the limit
around the end of one; in return a count is exact, and "again in 200 seconds" is true.
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

PATIENCE = 30.0  # Seconds to wait for the outcome of attempts under way.
PAUSE = 0.05  # Seconds between two looks at it.
LEASE = 120.0  # Seconds that an attempt counts as under way; longer than a full queue takes.
MAX_HASH_SECONDS = 20.0  # Seconds of these that the hash itself may take, on a busy machine.

SITE_FACTOR = 8
"""How many times the limit of an IP address a /48 of IPv6 has.

With a /48 a customer may do as much as with eight IPv4 addresses; without a limit it would be
65,536 times the limit of a /64. A lower factor would hurt the customers of providers that put many
of them into one /48: 256 with a /56 each. Larger networks are not counted: a /46 has the limits of
four /48s and a /32 those of 65,536; there only the limit of each account remains.
"""


class Attempt:
    """A login that was let in. Use ``fail`` or ``succeed`` once the password was looked at.

    ``verify_deadline``, on the clock of ``time.monotonic``, is the latest time to begin that: an
    attempt counts as pending for a limited time only, and would be a free guess afterwards.
    """

    def __init__(self, database: Database, keys: "LoginKeys", windows: dict[bytes, datetime]):
        self._database = database
        self._keys = keys
        self._reserved = {"keys": list(windows), "windows": list(windows.values())}
        self._is_failure = False
        self._is_settled = not windows
        self.verify_deadline = time.monotonic() + LEASE - MAX_HASH_SECONDS

    async def fail(self, write_events: Callable[[sql.Connection, bool], Awaitable[None]]) -> None:
        """The password was wrong: counts that, in one transaction with ``write_events``.

        That gets the transaction's connection, and whether this failure met a limit of the account:
        true once in a window, for the failure after which every attempt is refused. It may run
        twice, as ``Database.transact`` says.
        """

        async def count_and_write(connection: sql.Connection) -> None:
            await write_events(connection, await self._count(connection))

        # From here on it is a failure, whatever becomes of the transaction.
        self._is_failure = True
        await self._database.transact(count_and_write)
        self._is_settled = True

    async def succeed(self) -> None:
        """The password was right: forgets this account's failures at this address.

        Those of the address and of the account stay: a good login of one's own, and the owner's,
        give an attacker no further tries.
        """
        if not self._is_settled:
            self._is_settled = True
            await sql.throttle.succeed(self._database, pair_key=self._keys.pair, **self._reserved)

    async def end(self) -> None:
        """Settle what was neither counted nor taken back.

        A password that was not looked at (no free worker, a lost database) is as if it had not been
        tried; a wrong one is a failure, also when the news of it could not be kept.
        """
        if self._is_settled:
            return
        # What cannot be settled now lapses with its lease.
        with contextlib.suppress(DatabaseUnavailable):
            if self._is_failure:
                await self._count(self._database)
            # Later than that it may have lapsed, and what is given back would be another's.
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
    """What a login is counted under: digests, the same for accounts that do not exist.

    ``account_id`` is the user's id, so that no change of email or username begins a new count, or
    ``unknown_account_id`` of an email that no user has.
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
        # These do not hold at a known address of the user: there neither strangers nor neighbours
        # can lock the owner out.
        self.wide = [self.account, *site]
        keys = {self.pair: pair, self.account: account, **by_address}
        self.limits = {key: limit for key, limit in keys.items() if limit.most > 0}


class Throttle:
    """Counts in PostgreSQL and refuses what is past the limits of ``settings``."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        # Those who wait for one key stand in one line, and only the first of them looks.
        self._lines: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def attempt(self, account_id: UUID, client_address: str) -> AsyncIterator[Attempt]:
        """Let a login in, or refuse it before its password costs anything.

        The caller must verify the password of the user ``account_id`` and of no other: an email
        may have changed hands since it was looked up, and its new owner's failures would not count.
        An attempt that ends without ``fail`` or ``succeed`` is given back. Raises
        ``TooManyAttempts`` past a limit, ``Unavailable`` when the outcome of those under way does
        not come, and ``DatabaseUnavailable``.
        """
        keys = LoginKeys(account_id, client_address, self._settings.login_limits)
        attempt = Attempt(self._database, keys, await self._reserve(keys))
        try:
            yield attempt
        finally:
            await attempt.end()

    async def admit_registration(self, client_address: str) -> None:
        """Count a registration, or a change of name or address, which tells as well what is taken.

        Raises ``TooManyAttempts`` past ``REGISTRATION_LIMIT``.
        """
        limit = self._settings.registration_limit
        await self._admit("registration", _by_address("registration", client_address, limit))

    async def admit_conflict(self, client_address: str) -> dict[bytes, datetime]:
        """Count a response that an email or username is taken, for ``release_conflict``.

        Raises ``TooManyAttempts`` past ``CONFLICT_LIMIT``, in the words of a registration.
        """
        limit = self._settings.conflict_limit
        return await self._admit("registration", _by_address("conflict", client_address, limit))

    async def release_conflict(self, counted: dict[bytes, datetime]) -> None:
        """Take back what ``admit_conflict`` counted in advance: nothing was taken."""
        if counted:
            # What cannot be taken back counts until its window ends.
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
        """Whether the owner may be told again that logins are refused: not at every lockout."""
        interval = self._settings.lockout_mail_interval
        if interval == 0:
            return False
        row = await sql.throttle.admit(
            connection, key=digest("lockout mail", str(account_id)), most=1, seconds=interval
        )
        return bool(row["admitted"])

    async def _admit(self, subject: str, counters: dict[bytes, Limit]) -> dict[bytes, datetime]:
        """Count a request under each of ``counters``; return the window of each.

        Raises ``TooManyAttempts``, which names ``subject``, past a limit.
        """
        counted: dict[bytes, datetime] = {}
        # The /64 comes first: what is refused there takes no place of the others in its /48.
        for key, (most, seconds) in counters.items():
            if most == 0:
                continue
            row = await sql.throttle.admit(self._database, key=key, most=most, seconds=seconds)
            if not row["admitted"]:
                raise TooManyAttempts(subject, retry_after=row["retry_after"])
            counted[key] = row["ends_at"]
        return counted

    async def _reserve(self, keys: LoginKeys) -> dict[bytes, datetime]:
        """The window of each key under which the attempt was counted."""
        if not keys.limits:
            return {}
        rows = await self._try(keys)
        if not _is_admitted(rows):
            rows = await self._wait(keys, rows[0]["key"])
        return {row["key"]: row["ends_at"] for row in rows}

    async def _wait(self, keys: LoginKeys, blocked: bytes) -> Any:
        """Try again until those under way have failed or made room."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            line = self._lines.setdefault(blocked, asyncio.Lock())
            try:
                async with asyncio.timeout_at(deadline):
                    await line.acquire()
            except TimeoutError:
                raise too_busy() from None
            try:
                rows = await self._poll_until_free(keys, blocked, deadline)
            finally:
                line.release()
            if _is_admitted(rows):
                return rows
            blocked = rows[0]["key"]

    async def _poll_until_free(self, keys: LoginKeys, blocked: bytes, deadline: float) -> Any:
        """Look until there is room under ``blocked``: who waits for another key holds up nobody."""
        # No timeout here: one in the middle of a statement would leave what it counted.
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
    """The id under which attempts on an email that no user has are counted.

    Of version 5, so that it is never a user's, which is of version 4: the same statements do the
    same work with it and find no user.
    """
    return uuid5(NAMESPACE_URL, f"mailto:{email_key}")


def digest(kind: str, *parts: str) -> bytes:
    """The key of a counter: 16 bytes, however long the email is. No part can hold a NUL."""
    text = "\0".join((kind, *parts))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _by_address(kind: str, client_address: str, limit: Limit) -> dict[bytes, Limit]:
    """The counters of an IP address under ``limit``, the narrower network first."""
    counters = {digest(kind, address_key(client_address)): limit}
    if site := site_key(client_address):
        counters[digest(kind, site)] = Limit(limit.most * SITE_FACTOR, limit.seconds)
    return counters


def _is_admitted(rows: Any) -> bool:
    return all(row["admitted"] for row in rows)


THROTTLE = web.AppKey("throttle", Throttle)
