"""Verify that a person has a passkey: for a login, and for a new proof in a session.

A challenge has no user: the person chooses a passkey, and the passkey tells the account. A verified
passkey counts no failure of a password and forgets none. A failed one locks no login; the rate
limit of the IP address bounds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID

from aiohttp import web

import sql
from service.accounts.one_time_tokens import Purpose
from service.accounts.passkeys.ceremonies import (
    InvalidCredential,
    challenge_of,
    verify_assertion,
)
from service.accounts.passkeys.library import load_library
from service.accounts.passkeys.options import request_options
from service.accounts.passkeys.relying_party import RelyingParty
from service.accounts.security_log import EventKind, write_event
from service.accounts.sessions.opaque_tokens import digest_of, new_token
from service.accounts.throttling.throttle import Throttle
from service.database.pool import Database
from service.http.client import Client
from service.http.error_codes import ErrorCode
from service.http.errors import Unauthorized


class ChallengeInvalid(Unauthorized):
    """401: the challenge cannot be used. The client asks for another one."""

    def __init__(self) -> None:
        super().__init__("challenge", "is invalid", code=ErrorCode.CHALLENGE_INVALID)


class PasskeyUnknown(Unauthorized):
    """401: the account does not have this passkey, or no account has it."""

    def __init__(self) -> None:
        super().__init__("passkey", "is unknown", code=ErrorCode.PASSKEY_UNKNOWN)


class PasskeyInvalid(Unauthorized):
    """401: the response of the passkey does not pass the checks."""

    def __init__(self) -> None:
        super().__init__("passkey", "cannot be verified", code=ErrorCode.PASSKEY_INVALID)


class CounterWentBack(Exception):
    """The counter of a passkey of ``user_id`` is not above the stored one.

    The transaction is rolled back. After that, the handler calls ``reject_counter``.
    """

    def __init__(self, user_id: UUID) -> None:
        super().__init__(user_id)
        self.user_id = user_id


@dataclass(frozen=True, slots=True)
class VerifiedPasskey:
    """A passkey whose response is valid. ``PasskeyVerifier.use`` checks its counter."""

    id: UUID
    user_id: UUID
    sign_count: int


class PasskeyVerifier:
    """Issue challenges for passkeys, and verify the responses to them."""

    def __init__(self, database: Database, party: RelyingParty, throttle: Throttle) -> None:
        self._database = database
        self._party = party
        self._throttle = throttle

    async def issue_challenge(self, client: Client) -> dict[str, Any]:
        """Return the options for ``navigator.credentials.get()``, with a new challenge.

        Raise ``TooManyAttempts`` past ``PASSKEY_LIMIT``.
        """
        await self._throttle.admit_passkey_challenge(client)
        await load_library()
        token, purpose = new_token(), Purpose.PASSKEY_LOGIN
        await sql.passkey_verification.insert_challenge(
            self._database, digest=token.digest, purpose=purpose, ttl=purpose.ttl
        )
        return request_options(self._party, token.plain)

    async def verify(
        self,
        client: Client,
        credential: Mapping[str, Any],
        *,
        user_id: UUID | None = None,
        session_id: UUID | None = None,
    ) -> VerifiedPasskey:
        """Verify the response ``credential``. Its challenge is used, whatever the result is.

        With ``user_id``, only a passkey of this user is accepted. ``session_id`` is the session of
        the request, if it has one. Raise ``ChallengeInvalid``, ``PasskeyUnknown``,
        ``PasskeyInvalid``, and ``TooManyAttempts`` past ``PASSKEY_LIMIT``. Write a failure of a
        known passkey to the security log.
        """
        await self._throttle.admit_passkey_response(client)
        await load_library()
        try:
            challenge = challenge_of(credential)
        except InvalidCredential:
            raise PasskeyInvalid from None
        if not await sql.one_time_tokens.consume(
            self._database, digest=digest_of(challenge), purpose=Purpose.PASSKEY_LOGIN
        ):
            raise ChallengeInvalid
        row = await sql.passkey_verification.find(self._database, credential_id=credential["id"])
        if row is None or user_id not in (None, row["user_id"]):
            raise PasskeyUnknown
        try:
            # The passkey knows its user. A response that names another one is forged.
            if credential["response"]["userHandle"] != row["user_id"].bytes:
                raise InvalidCredential("the user handle is of another user")
            count = verify_assertion(self._party, credential, challenge, row["public_key"])
        except InvalidCredential:
            await write_event(
                self._database,
                client,
                EventKind.SIGN_IN_FAILED,
                user_id=row["user_id"],
                session_id=session_id,
            )
            raise PasskeyInvalid from None
        return VerifiedPasskey(row["id"], row["user_id"], count)

    async def use(self, connection: sql.Connection, passkey: VerifiedPasskey) -> Any:
        """Store the counter of ``passkey``, and return the row of its user as of now.

        Call this in the transaction that relies on the passkey. The lock on the user's row is held
        until it ends: a passkey that is removed simultaneously opens no session after that. Raise
        ``PasskeyUnknown`` if it was removed, and ``CounterWentBack``.
        """
        key = {"id": passkey.id, "user_id": passkey.user_id}
        await sql.sessions.lock_user(connection, user_id=passkey.user_id)
        user = await sql.passkey_verification.find_user(connection, **key)
        if user is None:
            raise PasskeyUnknown
        if not await sql.passkey_verification.use(connection, **key, sign_count=passkey.sign_count):
            raise CounterWentBack(passkey.user_id)
        return user

    async def reject_counter(
        self, client: Client, error: CounterWentBack, *, session_id: UUID | None = None
    ) -> NoReturn:
        """Log that the passkey may have been copied, and raise ``PasskeyInvalid``.

        WebAuthn Level 3, section 6.1.1. ``session_id`` is that of ``verify``.
        """
        await write_event(
            self._database,
            client,
            EventKind.PASSKEY_COUNTER_WENT_BACK,
            user_id=error.user_id,
            session_id=session_id,
        )
        raise PasskeyInvalid from None


PASSKEY_VERIFIER = web.AppKey("passkey_verifier", PasskeyVerifier)
