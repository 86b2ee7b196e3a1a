"""Limits on failed logins, on registrations and on refreshes, shared by every process.

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
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from aiohttp import web

import sql
from service.database.pool import Database, DatabaseUnavailable
from service.http.client_address import address_key
from service.http.errors import TooManyAttempts, Unavailable
from service.limits import Limit
from service.settings import Settings

PATIENCE = 10.0  # Seconds to wait for the outcome of attempts under way.
PAUSE = 0.05  # Seconds between two looks at it.


class Attempt:
    """A login that was let in. Call ``fail`` or ``succeed`` once the password was looked at."""

    def __init__(self, database: Database, keys: "LoginKeys", windows: dict[bytes, datetime]):
        self._database = database
        self._keys = keys
        self._windows = windows
        self.settled = False

    async def fail(self, connection: sql.Connection) -> bool:
        """The password was wrong. Returns whether this failure met a limit of the account.

        That is true once in a window: for the failure after which every attempt is refused. Counted
        in the transaction of ``connection``, with whatever tells of it.
        """
        return any(
            row["counted"] == self._keys.limits[row["key"]].most
            for row in await self._settle(connection, failures=1)
            if row["key"] in (self._keys.pair, self._keys.account)
        )

    async def succeed(self, user_id: UUID) -> None:
        """The password was right: forgets this account's failures at this address.

        Those of the address and of the account stay: a good login of one's own, and the owner's,
        give an attacker no further tries.
        """
        self.settled = True
        if self._keys.limits:
            await sql.throttle.succeed(
                self._database,
                keys=list(self._windows),
                windows=list(self._windows.values()),
                pair_key=self._keys.pair,
                user_id=user_id,
                address_key=self._keys.address_key,
            )

    async def give_back(self) -> None:
        """The password was not looked at: it is as if the attempt had not been made."""
        # What cannot be given back now lapses with its window.
        with contextlib.suppress(DatabaseUnavailable):
            await self._settle(self._database, failures=0)

    async def _settle(self, db: Database | sql.Connection, failures: int) -> Any:
        self.settled = True
        if not self._windows:
            return []
        return await sql.throttle.settle(
            db,
            keys=list(self._windows),
            windows=list(self._windows.values()),
            failures=failures,
        )


class LoginKeys:
    """What a login is counted under: digests, the same for accounts that do not exist."""

    def __init__(
        self, email_key: str, client_address: str, limits: tuple[Limit, Limit, Limit]
    ) -> None:
        self.email_key = email_key
        self.address_key = address_key(client_address)
        self.pair = digest("login pair", self.email_key, self.address_key)
        self.address = digest("login address", self.address_key)
        self.account = digest("login account", self.email_key)
        keys = (self.pair, self.address, self.account)
        self.limits = {
            key: limit for key, limit in zip(keys, limits, strict=True) if limit.most > 0
        }


class Throttle:
    """Counts in PostgreSQL and refuses what is past the limits of ``settings``."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        # Those who wait for one key stand in one line, and only the first of them looks.
        self._lines: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def attempt(self, email_key: str, client_address: str) -> AsyncIterator[Attempt]:
        """Let a login in, or refuse it before its password costs anything.

        An attempt that ends without ``fail`` or ``succeed`` (no free worker, a lost database) is
        given back. Raises ``TooManyAttempts`` past a limit, ``Unavailable`` when the outcome of
        those under way does not come, and ``DatabaseUnavailable``.
        """
        keys = LoginKeys(email_key, client_address, self._settings.login_limits)
        attempt = Attempt(self._database, keys, await self._reserve(keys))
        try:
            yield attempt
        finally:
            if not attempt.settled:
                await attempt.give_back()

    async def admit_registration(self, client_address: str) -> None:
        """Count a registration. Raises ``TooManyAttempts`` past ``REGISTRATION_LIMIT``."""
        await self._admit("registration", client_address, self._settings.registration_limit)

    async def admit_refresh(self, client_address: str) -> None:
        """Count a refresh. Raises ``TooManyAttempts`` past ``REFRESH_LIMIT``."""
        await self._admit("refresh", client_address, self._settings.refresh_limit)

    async def admits_lockout_mail(self, connection: sql.Connection, email_key: str) -> bool:
        """Whether the owner may be told again that logins are refused: not at every lockout."""
        interval = self._settings.lockout_mail_interval
        if interval == 0:
            return False
        row = await sql.throttle.admit(
            connection, key=digest("lockout mail", email_key), most=1, seconds=interval
        )
        return bool(row["admitted"])

    async def _admit(self, subject: str, client_address: str, limit: Limit) -> None:
        if limit.most == 0:
            return
        key = digest(subject, address_key(client_address))
        row = await sql.throttle.admit(
            self._database, key=key, most=limit.most, seconds=limit.seconds
        )
        if not row["admitted"]:
            raise TooManyAttempts(subject, retry_after=row["retry_after"])

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
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        line = self._lines.setdefault(blocked, asyncio.Lock())
        try:
            async with asyncio.timeout_at(deadline):
                await line.acquire()
        except TimeoutError:
            raise _busy() from None
        # No timeout from here on: one in the middle of a statement would leave what it counted.
        try:
            while not _is_admitted(rows := await self._try(keys)):
                if loop.time() >= deadline:
                    raise _busy()
                await asyncio.sleep(PAUSE)
            return rows
        finally:
            line.release()

    async def _try(self, keys: LoginKeys) -> Any:
        rows = await sql.throttle.reserve(
            self._database,
            keys=list(keys.limits),
            most=[limit.most for limit in keys.limits.values()],
            seconds=[limit.seconds for limit in keys.limits.values()],
            account_key=keys.account,
            email_key=keys.email_key,
            address_key=keys.address_key,
            known_ttl=self._settings.known_address_ttl,
        )
        if waits := [row["retry_after"] for row in rows if row["refused"]]:
            raise TooManyAttempts("credentials", retry_after=max(waits))
        return rows


def digest(kind: str, *parts: str) -> bytes:
    """The key of a counter: 16 bytes, however long the email is. No part can hold a NUL."""
    text = "\0".join((kind, *parts))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _is_admitted(rows: Any) -> bool:
    return all(row["admitted"] for row in rows)


def _busy() -> Unavailable:
    return Unavailable("server", "is too busy", code="passwords_busy", retry_after=5)


THROTTLE = web.AppKey("throttle", Throttle)
