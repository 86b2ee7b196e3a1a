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

    def __init__(self, database: Database, keys: "LoginKeys", row: Any):
        """Start the lease. ``row`` is the result of ``sql.login_attempts.admit``."""
        self.account_id: UUID = row["account_id"]
        """The id that is counted: of the user, or of no user."""
        self.user = row if row["id"] is not None else None
        """The row of the user, or ``None``."""
        self._database = database
        self._keys = keys
        self._reserved = {"keys": row["keys"], "windows": row["windows"]}
        self._is_failure = False
        self._is_settled = not row["keys"] and not keys.max_consecutive_failures
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
        counts: bool = await sql.login_attempts.record_success(
            self._database,
            account_id=self.account_id,
            ip_key=self._keys.ip_key,
            **self.success(),
        )
        return self.note_success(counts)

    def success(self) -> dict[str, Any]:
        """Return the arguments of a statement that records a correct password.

        The caller must call ``note_success`` with ``counts`` of the result.
        """
        return {
            **self._reserved,
            "pair_key": self._keys.pair(self.account_id),
            "known_ttl": self._keys.known_ttl,
            "max_failures": self._keys.max_consecutive_failures,
        }

    def note_success(self, counts: bool) -> bool:
        """Note that a statement has recorded a correct password. Return whether it counts."""
        self._is_settled = counts
        return counts

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
            user_id=self.account_id,
            ip_key=self._keys.ip_key,
            known_ttl=self._keys.known_ttl,
            max_failures=self._keys.max_consecutive_failures,
            mail_interval=mail_interval,
        )
        return row is not None and row["is_mail_due"]

    async def _count(self, db: Database | sql.Connection) -> bool:
        """Count a failure, and return whether it reached a limit of the account."""
        if not self._reserved["keys"]:
            return False
        rows = await sql.login_attempts.record_failure(db, **self._reserved)
        limits = self._keys.account_limits(self.account_id)
        return any(row["failures"] == limits.get(row["key"]) for row in rows)


class LoginKeys:
    """The keys that a login of ``client`` is counted under.

    A key begins with the id of the account, or is a digest of the IP address. The id of the user
    is used so that a change of email or username does not begin a new count. For an email without
    a user it is ``unknown_account_id`` of the email. The statement that counts finds the id, so
    only the rest of such a key is known before.
    """

    def __init__(self, client: Client, settings: Settings) -> None:
        self.ip_key = client.ip_key
        self.known_ttl = settings.known_address_ttl
        self.max_consecutive_failures = settings.consecutive_failure_limit or None
        self._pair = _pair_suffix(client)
        pair_limit, ip_limit, account_limit = settings.login_limits
        by_ip = ip_counters("login ip", client, ip_limit)
        self.ip, *site = by_ip
        self._of_account = {self._pair: pair_limit, b"": account_limit}
        limits = {
            suffix: limit
            for suffix, limit in (self._of_account | by_ip).items()
            if limit.max_count > 0
        }
        # The limits of these keys do not apply at a known IP address of the user. There, neither
        # strangers nor others in the same network can lock the owner out.
        wide = (b"", *site)
        self.arguments = {
            "suffixes": list(limits),
            "are_of_account": [suffix in self._of_account for suffix in limits],
            "are_wide": [suffix in wide for suffix in limits],
            "max_counts": [limit.max_count for limit in limits.values()],
            "seconds": [limit.seconds for limit in limits.values()],
        }
        """The arguments of ``sql.login_attempts.admit`` that name the counters."""

    def pair(self, account_id: UUID) -> bytes:
        """Return the key of the account at this IP address."""
        return account_id.bytes + self._pair

    def account_limits(self, account_id: UUID) -> dict[bytes, int]:
        """Return the maximum of each counter of the account, by its key."""
        return {
            account_id.bytes + suffix: limit.max_count for suffix, limit in self._of_account.items()
        }


class LoginAttempts:
    """Admit logins up to ``LOGIN_LIMITS``, for all processes together."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        # Attempts that wait for the same key share a lock: only its holder polls the database.
        self._wait_queues: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def admit(
        self, account_id: UUID, client: Client, email_key: str | None = None
    ) -> AsyncIterator[Attempt]:
        """Admit a login, or reject it before its password is hashed.

        With an ``email_key``, the account is that of the user with this email, and ``account_id``
        is ``unknown_account_id`` of it. The caller must verify the password of ``user`` of the
        attempt and of no other user. The email may move to another user meanwhile, and the failures
        of its new owner would not count. An attempt that ends without a recorded outcome is
        released.

        Raise ``TooManyAttempts`` past a limit, ``Unavailable`` when attempts in flight fill a limit
        for ``MAX_WAIT`` seconds, and ``DatabaseUnavailable``.
        """
        keys = LoginKeys(client, self._settings)

        async def try_once() -> Any:
            return await self._try(keys, account_id, email_key)

        row = await try_once()
        if not row["is_admitted"]:
            row = await self._wait(try_once, row["keys"][0])
        attempt = Attempt(self._database, keys, row)
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
        await sql.throttle.lower_hits(
            connection, key=account_id.bytes + _pair_suffix(client), max_count=0
        )

    async def _wait(self, try_once: Callable[[], Awaitable[Any]], blocked: bytes) -> Any:
        """Retry until the attempt is admitted, and return its row.

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
                row = await _poll_until_free(try_once, blocked, deadline)
            finally:
                lock.release()
            if row["is_admitted"]:
                return row
            blocked = row["keys"][0]

    async def _try(self, keys: LoginKeys, account_id: UUID, email_key: str | None) -> Any:
        """Return the row of an attempt that is admitted, or that attempts in flight block.

        Raise ``TooManyAttempts`` if failures alone fill the limit of a key.
        """
        row = await sql.login_attempts.admit(
            self._database,
            email_key=email_key,
            account_id=account_id,
            ip_key=keys.ip_key,
            known_ttl=keys.known_ttl,
            max_failures=keys.max_consecutive_failures,
            lease=LEASE,
            **keys.arguments,
        )
        if row["retry_after"] is not None:
            raise TooManyAttempts("credentials", retry_after=row["retry_after"])
        return row


async def _poll_until_free(
    try_once: Callable[[], Awaitable[Any]], blocked: bytes, deadline: float
) -> Any:
    """Poll until ``blocked`` has capacity.

    Return then even if the attempt is blocked by another key: attempts that wait on another key use
    another queue.
    """
    # No timeout here: cancelling a statement could leave its attempt counted.
    while True:
        row = await try_once()
        if row["is_admitted"] or blocked not in row["keys"]:
            return row
        if asyncio.get_running_loop().time() >= deadline:
            raise too_busy()
        await asyncio.sleep(POLL_INTERVAL)


def unknown_account_id(email_key: str) -> UUID:
    """Return the id under which attempts on an email without a user are counted.

    It is a UUID of version 5. The ids of users have version 4, so it is never the id of a user. The
    same statements do the same work with it, and find no user.
    """
    return uuid5(NAMESPACE_URL, f"mailto:{email_key}")


def _pair_suffix(client: Client) -> bytes:
    """Return the end of the key of an account at the IP address of ``client``."""
    return digest("login pair", client.ip_key)


LOGIN_ATTEMPTS = web.AppKey("login_attempts", LoginAttempts)
