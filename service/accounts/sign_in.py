"""The end of every login and registration, and the only code that opens a session."""

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from aiohttp import web

import sql
from service.accounts import one_time_tokens
from service.accounts.account_lock import AccountLocked, require_unlocked
from service.accounts.email_verification import EmailNotVerified, queue_verification
from service.accounts.identity_providers.identity_proof import IdentityProof
from service.accounts.notices import queue_sign_in_notice
from service.accounts.one_time_tokens import Purpose
from service.accounts.passwords.verification import CredentialVerifier, wrong_credentials
from service.accounts.responses import login_response
from service.accounts.security_log import EventKind, write_event
from service.accounts.sessions.access_tokens import AccessTokens
from service.accounts.sessions.authentication_methods import PASSWORD, Method
from service.accounts.sessions.sessions import (
    NewSession,
    PasswordChanged,
    SessionLimitReached,
    open_session,
    open_session_of_known_login,
)
from service.accounts.throttling.login_attempts import Attempt, unknown_account_id
from service.accounts.throttling.throttle import Throttle
from service.database.pool import Database
from service.http.client import Client
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError
from service.settings.settings import Settings


class TwoFactorRequired(ApiError):
    """401: the account has a second factor. ``challenge`` is the token for the next step."""

    def __init__(self, challenge: str) -> None:
        super().__init__(
            ErrorCode.TWO_FACTOR_REQUIRED,
            {"two_factor": ["is required"]},
            details={"challenge": challenge},
            headers={"WWW-Authenticate": "Token"},
        )


class SignIn:
    """Open a session within the session limit, write the event, and return the response.

    With ``REQUIRE_VERIFIED_EMAIL``, no session is opened before the email is verified.
    """

    def __init__(
        self, database: Database, tokens: AccessTokens, throttle: Throttle, settings: Settings
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._throttle = throttle
        self._settings = settings

    async def log_in(
        self, client: Client, email_key: str, password: str, verifier: CredentialVerifier
    ) -> web.StreamResponse:
        """Log in with a password: 200 with the tokens of a new session.

        Raise the errors of ``verify_credentials`` and of ``finish``. For a login with a device and
        from an IP address that the user knows, one statement records the right password and opens
        the session.
        """
        session: NewSession | None = None

        async def open_session_if_known(user: Any, attempt: Attempt) -> bool:
            nonlocal session
            if self._settings.session_limit or not self._needs_nothing_else(user):
                return await attempt.record_success()
            counts, session = await open_session_of_known_login(
                self._database,
                client,
                self._settings,
                user_id=user["id"],
                password_version=user["password_version"],
                methods=PASSWORD,
                success=attempt.success(),
            )
            return attempt.note_success(counts)

        user = await verifier.verify_credentials(
            client,
            unknown_account_id(email_key),
            password,
            email_key=email_key,
            record_success=open_session_if_known,
        )
        return await self.finish(client, user, PASSWORD, session=session)

    async def finish(
        self,
        client: Client,
        user: Any,
        methods: Collection[Method],
        confirm: Callable[[sql.Connection], Awaitable[Any]] | None = None,
        proof: IdentityProof | None = None,
        session: NewSession | None = None,
    ) -> web.StreamResponse:
        """End a login of ``client``: 200 with the tokens of a new session.

        ``user`` is the row of a user who has proved who they are by ``methods``. Raise
        ``Unauthorized`` if their password has changed since ``user`` was read, and
        ``SessionLimitReached`` when the limit is reached and ``SESSION_LIMIT_POLICY`` is ``deny``.
        Raise ``AccountLocked`` if the account is locked. Raise ``EmailNotVerified`` if the email
        must be verified first, and queue another mail. All are written to the security log. Tell
        the owner by mail about a login with another device or from another IP address.

        Raise ``TwoFactorRequired`` if the account has a second factor that is not among
        ``methods``. No session is opened then.

        ``confirm`` runs first in the transaction that opens the session. It uses up what the client
        has proved itself with, and returns the row of the user as of then; ``user`` needs only the
        ``id``. Raise its errors.

        ``proof`` is the identity at a provider that has proved who the client is. It is linked, or
        recorded as used, in the same transaction: with a second factor, in that of the second step.

        ``session`` is the session if ``log_in`` has opened it already.
        """
        if session is not None:
            return login_response(user, session, self._tokens, self._settings)

        # An error that is returned, not raised, commits the transaction.
        async def sign_in(connection: sql.Connection) -> web.StreamResponse | ApiError:
            current = user if confirm is None else await confirm(connection)
            if current["locked_at"] is not None:
                await self._lock_current(connection, current)
                await write_event(
                    connection, client, EventKind.SIGN_IN_DENIED, user_id=current["id"]
                )
                return AccountLocked()
            if self._settings.require_verified_email and current["email_verified_at"] is None:
                await self._refuse_unverified(connection, client, current)
                return EmailNotVerified()
            if current["two_factor_since"] is not None and Method.MULTIPLE not in methods:
                return TwoFactorRequired(
                    await self._issue_challenge(connection, client, current, methods, proof)
                )
            await self._lock_current(connection, current)
            return await self._open_session(
                connection, client, current, methods, EventKind.SIGNED_IN, proof=proof
            )

        try:
            response = await self._database.transact(sign_in)
        except PasswordChanged:
            await write_event(self._database, client, EventKind.SIGN_IN_FAILED, user_id=user["id"])
            raise wrong_credentials() from None
        except (SessionLimitReached, AccountLocked):
            # The client has proved who they are. The owner must see this in the log, even without a
            # session.
            await write_event(self._database, client, EventKind.SIGN_IN_DENIED, user_id=user["id"])
            raise
        if isinstance(response, ApiError):
            raise response
        return response

    async def finish_registration(
        self,
        client: Client,
        insert_user: Callable[[sql.Connection], Awaitable[Any]],
        methods: Collection[Method] = PASSWORD,
        proof: IdentityProof | None = None,
    ) -> web.StreamResponse:
        """End a registration: 200 (201 with ``REALWORLD_STRICT``) with the tokens of a session.

        ``insert_user`` inserts the user and returns the row. It runs in the transaction that opens
        the session. Raise its errors. With ``REQUIRE_VERIFIED_EMAIL`` and an email that is not
        verified, the account is registered without a session, and ``EmailNotVerified`` is raised.
        ``methods`` and ``proof`` are those of ``finish``. A registration through a provider ends
        like a login there, with 200.
        """
        status = 201 if self._settings.realworld_strict and proof is None else 200

        async def register(connection: sql.Connection) -> web.StreamResponse | None:
            user = await insert_user(connection)
            if self._settings.require_verified_email and user["email_verified_at"] is None:
                await write_event(connection, client, EventKind.REGISTERED, user_id=user["id"])
                if proof is not None:
                    await proof.complete(connection, user["id"], None)
                return None
            return await self._open_session(
                connection, client, user, methods, EventKind.REGISTERED, status=status, proof=proof
            )

        response = await self._database.transact(register)
        if response is None:
            raise EmailNotVerified
        return response

    def _needs_nothing_else(self, user: Any) -> bool:
        """Return whether a password is enough: the account is unlocked and the email verified."""
        return user["locked_at"] is None and (
            user["email_verified_at"] is not None or not self._settings.require_verified_email
        )

    async def _issue_challenge(
        self,
        connection: sql.Connection,
        client: Client,
        user: Any,
        methods: Collection[Method],
        proof: IdentityProof | None,
    ) -> str:
        """Return a challenge for the second step of a login, and log the first step.

        The challenge remembers the first step. It is of no use after a change of the password or of
        the second factor. Raise ``PasswordChanged`` if one was made since ``user`` was read, and
        ``AccountLocked`` if the account was locked.
        """
        await self._lock_current(connection, user)
        await require_unlocked(connection, user["id"], user["password_version"])
        await write_event(connection, client, EventKind.TWO_FACTOR_REQUIRED, user_id=user["id"])
        return await one_time_tokens.issue(
            connection,
            Purpose.TWO_FACTOR,
            user["id"],
            email=user["email"],
            email_key=user["email_key"],
            data={
                "amr": list(methods),
                "password_version": user["password_version"],
                "proof": proof.data if proof is not None else None,
            },
        )

    async def _lock_current(self, connection: sql.Connection, user: Any) -> None:
        """Lock the user's row. Raise ``PasswordChanged`` if ``user`` has an older password."""
        if await sql.sessions.lock_user(connection, user_id=user["id"]) != user["password_version"]:
            raise PasswordChanged

    async def _refuse_unverified(
        self, connection: sql.Connection, client: Client, user: Any
    ) -> None:
        """Log the refused login, and queue another mail that verifies the email.

        A person without a session has no other way to ask for this mail. Raise ``PasswordChanged``
        if the password has changed since ``user`` was read, and ``AccountLocked`` if the account
        was locked.
        """
        await self._lock_current(connection, user)
        await require_unlocked(connection, user["id"], user["password_version"])
        await write_event(connection, client, EventKind.SIGN_IN_DENIED, user_id=user["id"])
        current = await sql.email_verification.find(connection, user_id=user["id"])
        assert current is not None, "the user is locked and not deleted"
        await queue_verification(
            connection,
            client,
            current,
            throttle=self._throttle,
            settings=self._settings,
        )

    async def _open_session(
        self,
        connection: sql.Connection,
        client: Client,
        user: Any,
        methods: Collection[Method],
        kind: EventKind,
        *,
        status: int = 200,
        proof: IdentityProof | None = None,
    ) -> web.StreamResponse:
        session = await open_session(
            connection,
            client,
            self._settings,
            user_id=user["id"],
            password_version=user["password_version"],
            methods=methods,
            kind=kind,
        )
        if kind is EventKind.SIGNED_IN and not session.is_known:
            await queue_sign_in_notice(
                connection,
                client,
                user["id"],
                throttle=self._throttle,
                settings=self._settings,
            )
        if proof is not None:
            identity_id = await proof.complete(connection, user["id"], session.id)
            if proof.is_new and kind is EventKind.SIGNED_IN:
                await proof.tell_owner(
                    connection,
                    client,
                    user,
                    identity_id,
                    throttle=self._throttle,
                    settings=self._settings,
                )
        return login_response(user, session, self._tokens, self._settings, status=status)


SIGN_IN = web.AppKey("sign_in", SignIn)
