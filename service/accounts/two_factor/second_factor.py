"""Verify the second factor of an account: a code of an authenticator app, or a recovery code.

A code of the app is accepted once (RFC 6238, section 5.2): its time step must be later than that of
each code before, on every route together. A recovery code is deleted by its use. Wrong codes count
like wrong passwords, under the same limits, so that a new challenge or another method resets
nothing. With 100 wrong codes in a row the login is locked.
"""

import logging
from functools import partial
from typing import Any
from uuid import UUID

from aiohttp import web

import sql
from service.accounts.encryption import DecryptionError, Encryption
from service.accounts.notices import queue_notice
from service.accounts.passwords.verification import CredentialVerifier
from service.accounts.security_log import EventKind, write_event
from service.accounts.throttling.throttle import Throttle
from service.accounts.two_factor import recovery_codes, totp
from service.database.pool import Database
from service.http.client import Client
from service.http.error_codes import ErrorCode
from service.http.errors import Unavailable
from service.settings.settings import Settings

logger = logging.getLogger(__name__)

RETRY_AFTER = 300  # Seconds: an operator must set a key.


class SecondFactor:
    """Verify codes."""

    def __init__(
        self,
        database: Database,
        verifier: CredentialVerifier,
        encryption: Encryption,
        throttle: Throttle,
        settings: Settings,
    ) -> None:
        self._database = database
        self._verifier = verifier
        self._encryption = encryption
        self._throttle = throttle
        self._settings = settings

    async def verify_code(
        self, client: Client, user_id: UUID, code: str, session_id: UUID | None = None
    ) -> Any:
        """Accept ``code`` as the second factor of the user, once. Return the row of the user.

        ``session_id`` is the session of the request, if it has one. Raise ``Unauthorized`` if the
        code is wrong or was used, and log it. Raise ``TooManyAttempts`` after too many wrong codes
        or passwords, and ``Unavailable`` if the secret of the user cannot be decrypted.
        """
        return await self._verifier.verify_second_factor(
            client, user_id, partial(self._accept, client, user_id, code), session_id
        )

    async def _accept(self, client: Client, user_id: UUID, code: str) -> bool:
        if (digest := recovery_codes.digest_of(code)) is None:
            return await self._accept_totp(user_id, code)
        return await self._database.transact(
            partial(self._use_recovery_code, client=client, user_id=user_id, digest=digest)
        )

    async def _accept_totp(self, user_id: UUID, code: str) -> bool:
        row = await sql.second_factor.find_secret(self._database, user_id=user_id)
        if row is None:
            return False
        try:
            secret = totp.decrypt(self._encryption, row["secret"], user_id)
        except DecryptionError as error:
            logger.error("second factor cannot be read: user=%s error=%s", user_id, error)
            raise two_factor_unavailable() from None
        step = totp.matching_step(secret, code)
        if step is None:
            return False
        accepted = await sql.second_factor.accept_step(self._database, id=row["id"], step=step)
        return accepted is not None

    async def _use_recovery_code(
        self, connection: sql.Connection, *, client: Client, user_id: UUID, digest: bytes
    ) -> bool:
        await sql.sessions.lock_user(connection, user_id=user_id)
        if await sql.recovery_codes.use(connection, user_id=user_id, digest=digest) is None:
            return False
        await write_event(connection, client, EventKind.RECOVERY_CODE_USED, user_id=user_id)
        await queue_factor_notice(
            connection,
            client,
            "recovery_code_used",
            user_id,
            throttle=self._throttle,
            settings=self._settings,
        )
        return True


async def queue_factor_notice(
    connection: sql.Connection,
    client: Client,
    template: str,
    user_id: UUID,
    *,
    throttle: Throttle,
    settings: Settings,
) -> None:
    """Queue a notice about a factor to the current email of the user.

    The transaction of ``connection`` must hold the lock on the user's row.
    """
    user: Any = await sql.email_verification.find(connection, user_id=user_id)
    if user is not None:
        await queue_notice(
            connection,
            client,
            template,
            user_id=user_id,
            email=user["email"],
            email_key=user["email_key"],
            throttle=throttle,
            settings=settings,
        )


def two_factor_unavailable() -> Unavailable:
    """Return the error while the service has no key for the secrets of the second factor."""
    return Unavailable(
        "two_factor",
        "is not available",
        code=ErrorCode.TWO_FACTOR_UNAVAILABLE,
        retry_after=RETRY_AFTER,
    )


SECOND_FACTOR = web.AppKey("second_factor", SecondFactor)
