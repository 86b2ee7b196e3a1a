"""Limit registrations, conflicts, refreshes, passkeys, password changes and emails.

Each counter is a row in PostgreSQL, which all processes share. Windows are fixed and begin with the
first request. In the worst case this allows twice the limit around the end of a window. In return
the count is exact, and so is the ``Retry-After`` header: see
``docs/decisions/exact-throttling.md``.
"""

import contextlib
import hashlib
from datetime import datetime
from uuid import UUID

from aiohttp import web

import sql
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import Database
from service.http.client import Client
from service.http.errors import TooManyAttempts
from service.settings.rate_limit import Limit
from service.settings.settings import Settings

SITE_FACTOR = 8
"""The limit of an IPv6 /48, as a multiple of the limit of one IP address.

A customer with a /48 gets as much as eight IPv4 addresses. Without this limit they would get 65,536
times the limit of a /64. A lower factor would hurt the customers of providers that put many of them
into one /48: up to 256 with a /56 each. Larger networks are not counted: a /46 has the limits of
four /48s, and a /32 those of 65,536. Against them only the limit of each account remains.
"""

NOTICE_LIMIT = Limit(20, 3600)
"""Mails of one template that tell one email about a change. There are more only in an attack."""

EXPORT_LIMIT = Limit(10, 3600)
"""Exports of one account. Each may read all of its content."""

STARTED_RESET_LIMIT = Limit(10, 3600)
"""Resets of one account that administrators start over HTTP. Each sends a mail."""

WRONG_KEY_LIMIT = Limit(1000, 3600)
"""Wrong API keys from one IP address."""


class Throttle:
    """Count requests in PostgreSQL, and reject those past the limits of ``settings``."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def admit_registration(self, client: Client) -> None:
        """Count a registration, or a change of username or email.

        The response to such a change also reveals whether a value is taken. Raise
        ``TooManyAttempts`` past ``REGISTRATION_LIMIT``.
        """
        limit = self._settings.registration_limit
        await self._hit("registration", ip_counters("registration", client, limit))

    async def admit_conflict(self, client: Client) -> dict[bytes, datetime]:
        """Count, in advance, a response that says that an email or username is taken.

        Return the counted windows, for ``release_conflict``. Raise ``TooManyAttempts`` past
        ``CONFLICT_LIMIT``, with the message of a registration.
        """
        limit = self._settings.conflict_limit
        return await self._hit("registration", ip_counters("conflict", client, limit))

    async def release_conflict(self, windows: dict[bytes, datetime]) -> None:
        """Release what ``admit_conflict`` counted in advance, because no value was taken.

        ``windows`` is the result of ``admit_conflict``.
        """
        if windows:
            # If the database is unavailable, the conflict counts until its window ends.
            with contextlib.suppress(DatabaseUnavailable):
                await sql.throttle.release_hits(
                    self._database, keys=list(windows), windows=list(windows.values())
                )

    def refresh_counters(self, client: Client) -> dict[str, bytes | int | None]:
        """Return the counters of a refresh as arguments of ``sql.refresh.use``, which counts it.

        They enforce ``REFRESH_LIMIT``.
        """
        max_count, seconds = self._settings.refresh_limit
        site = client.site_key
        return {
            "throttle_key": digest("refresh", client.ip_key) if max_count else None,
            "max_count": max_count,
            "seconds": seconds,
            "site_key": digest("refresh", site) if max_count and site is not None else None,
            "max_site_count": max_count * SITE_FACTOR,
        }

    async def admit_passkey_challenge(self, client: Client) -> None:
        """Count a challenge for a passkey. Raise ``TooManyAttempts`` past ``PASSKEY_LIMIT``.

        Each challenge is a row in the database until it expires.
        """
        limit = self._settings.passkey_limit
        await self._hit("passkey", ip_counters("passkey challenge", client, limit))

    async def admit_passkey_response(self, client: Client) -> None:
        """Count a response of a passkey. Raise ``TooManyAttempts`` past ``PASSKEY_LIMIT``."""
        limit = self._settings.passkey_limit
        await self._hit("passkey", ip_counters("passkey response", client, limit))

    async def admit_provider_flow(self, client: Client) -> None:
        """Count a sign-in that begins through a provider.

        Raise ``TooManyAttempts`` past ``PROVIDER_LIMIT``. Each is a row in the database until it
        expires, and a request to the provider.
        """
        limit = self._settings.provider_limit
        await self._hit("provider", ip_counters("provider flow", client, limit))

    async def admit_provider_exchange(self, client: Client) -> None:
        """Count an exchange of a code. Raise ``TooManyAttempts`` past ``PROVIDER_LIMIT``."""
        limit = self._settings.provider_limit
        await self._hit("provider", ip_counters("provider exchange", client, limit))

    async def admit_password_change(self, user_id: UUID) -> None:
        """Count a password change. Raise ``TooManyAttempts`` past ``PASSWORD_CHANGE_LIMIT``."""
        key = digest("password change", str(user_id))
        await self._hit("password", {key: self._settings.password_change_limit})

    async def admit_password_reset(self, user_id: UUID) -> None:
        """Count a password reset with a valid link. Raise ``TooManyAttempts``.

        The limit is that of password changes, but the count is another one: a thief who is logged
        in and changes the password again and again must not stop the reset of the owner.
        """
        key = digest("password reset", str(user_id))
        await self._hit("password", {key: self._settings.password_change_limit})

    async def admit_reset_request(
        self, client: Client, account_id: UUID, *, is_known_ip: bool
    ) -> None:
        """Count a request for a mail that resets the password of ``account_id``.

        Raise ``TooManyAttempts`` past ``FORGOT_PASSWORD_LIMITS``. The limit of the whole account
        does not apply at a known IP address of the user, so that strangers cannot keep the mail
        away.
        """
        pair_limit, ip_limit, account_limit = self._settings.forgot_password_limits
        counters = {
            **ip_counters("reset request ip", client, ip_limit),
            digest("reset request pair", str(account_id), client.ip_key): pair_limit,
        }
        if not is_known_ip:
            counters[_reset_requests_key(account_id)] = account_limit
        await self._hit("email", counters)

    async def allow_reset_request(self, connection: sql.Connection, user_id: UUID) -> None:
        """Allow at least one more request for a mail that resets the password.

        Call this in a transaction that revokes the mailed links. Otherwise a thief could reach the
        limit of the account and then change the password: the owner would have no valid link, and
        would get no other. Only one more is allowed, so that repeated changes send few mails.
        """
        max_count = self._settings.forgot_password_limits[2].max_count
        await sql.throttle.lower_hits(
            connection, key=_reset_requests_key(user_id), max_count=max(max_count - 1, 0)
        )

    async def admit_lockout_email(self, connection: sql.Connection, account_id: UUID) -> bool:
        """Count a lockout email to the owner, and return whether it may be sent.

        Not every lockout sends an email: at most one in ``LOCKOUT_MAIL_INTERVAL`` seconds, or none
        if that is 0.
        """
        interval = self._settings.lockout_mail_interval
        if interval == 0:
            return False
        row = await sql.throttle.hit(
            connection, key=digest("lockout email", str(account_id)), max_count=1, seconds=interval
        )
        return bool(row["admitted"])

    async def admit_notice(
        self, connection: sql.Connection, template: str, user_id: UUID, email_key: str
    ) -> bool:
        """Count a notice to the owner, and return whether it may be sent.

        A thief who changes an account again and again must not flood the owner with mails. The
        owner has then had ``NOTICE_LIMIT`` mails of this template.
        """
        key = digest("notice", template, str(user_id), email_key)
        max_count, seconds = NOTICE_LIMIT
        row = await sql.throttle.hit(connection, key=key, max_count=max_count, seconds=seconds)
        return bool(row["admitted"])

    async def admit_verification_email(
        self, connection: sql.Connection, email_key: str
    ) -> int | None:
        """Count a mail that verifies an email, and return ``None`` if it may be sent.

        Past ``VERIFICATION_MAIL_LIMIT`` return the seconds until the next one may be sent. The
        limit is that of the email, not of the account: accounts can be registered and deleted, but
        their mails all reach the same person.
        """
        max_count, seconds = self._settings.verification_mail_limit
        if max_count == 0:
            return None
        row = await sql.throttle.hit(
            connection,
            key=digest("verification mail", email_key),
            max_count=max_count,
            seconds=seconds,
        )
        return None if row["admitted"] else int(row["retry_after"])

    async def admit_export(self, user_id: UUID) -> None:
        """Count an export of an account. Raise ``TooManyAttempts`` past ``EXPORT_LIMIT``."""
        await self._hit("export", {digest("export", str(user_id)): EXPORT_LIMIT})

    async def admit_started_reset(self, connection: sql.Connection, user_id: UUID) -> None:
        """Count a reset that an administrator starts, in the transaction that queues the mail.

        A leaked API key must not flood people with mails. Raise ``TooManyAttempts`` past
        ``STARTED_RESET_LIMIT``.
        """
        max_count, seconds = STARTED_RESET_LIMIT
        row = await sql.throttle.hit(
            connection,
            key=digest("started reset", str(user_id)),
            max_count=max_count,
            seconds=seconds,
        )
        if not row["admitted"]:
            raise TooManyAttempts("email", retry_after=row["retry_after"])

    async def admit_wrong_key(self, client: Client) -> None:
        """Count an unknown or revoked API key. Raise ``TooManyAttempts`` past the limit."""
        await self._hit("key", ip_counters("wrong key", client, WRONG_KEY_LIMIT))

    async def admit_resend(self, user_id: UUID) -> None:
        """Count a request for another verification mail.

        Raise ``TooManyAttempts`` past ``RESEND_LIMIT``.
        """
        await self._hit("email", {digest("resend", str(user_id)): self._settings.resend_limit})

    async def _hit(self, subject: str, counters: dict[bytes, Limit]) -> dict[bytes, datetime]:
        """Count a request under each of ``counters``, and return the window of each.

        Raise ``TooManyAttempts``, with the key ``subject``, past a limit.
        """
        windows: dict[bytes, datetime] = {}
        # The /64 comes first: a request that it rejects does not count against others in its /48.
        for key, (max_count, seconds) in counters.items():
            if max_count == 0:
                continue
            row = await sql.throttle.hit(
                self._database, key=key, max_count=max_count, seconds=seconds
            )
            if not row["admitted"]:
                raise TooManyAttempts(subject, retry_after=row["retry_after"])
            windows[key] = row["ends_at"]
        return windows


def digest(kind: str, *parts: str) -> bytes:
    """Return the key of a counter: 16 bytes, however long the email is.

    No part contains a NUL, so different parts never give the same text.
    """
    text = "\0".join((kind, *parts))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _reset_requests_key(account_id: UUID) -> bytes:
    return digest("reset request account", str(account_id))


def ip_counters(kind: str, client: Client, limit: Limit) -> dict[bytes, Limit]:
    """Return the counters of an IP address under ``limit``, the narrower network first."""
    counters = {digest(kind, client.ip_key): limit}
    if client.site_key is not None:
        counters[digest(kind, client.site_key)] = Limit(
            limit.max_count * SITE_FACTOR, limit.seconds
        )
    return counters


THROTTLE = web.AppKey("throttle", Throttle)
