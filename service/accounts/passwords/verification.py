"""Verify the password of an account, with limits, security log, lockout email and rehash."""

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

from aiohttp import web

import sql
from service.accounts import one_time_tokens
from service.accounts.login_unlock import queue_unlock_email
from service.accounts.notices import queue_lockout_email
from service.accounts.one_time_tokens import Purpose
from service.accounts.passwords.hash_queue import Requester
from service.accounts.passwords.hasher import PasswordHasher
from service.accounts.security_log import EventKind, write_event
from service.accounts.throttling.login_attempts import Attempt, Failure, LoginAttempts
from service.accounts.throttling.throttle import Throttle
from service.database.pool import Database
from service.http.client import Client
from service.http.error_codes import ErrorCode
from service.http.errors import BLANK, InvalidInput, Unauthorized, Unavailable
from service.settings.settings import Settings

RecordSuccess = Callable[[Any, Attempt], Awaitable[bool]]


async def _record_success(_: Any, attempt: Attempt) -> bool:
    return await attempt.record_success()


class CredentialVerifier:
    """Verify passwords and second factors, within the limits of failed logins."""

    def __init__(
        self,
        database: Database,
        passwords: PasswordHasher,
        login_attempts: LoginAttempts,
        throttle: Throttle,
        settings: Settings,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._login_attempts = login_attempts
        self._throttle = throttle
        self._settings = settings

    async def verify_credentials(
        self,
        client: Client,
        account_id: UUID,
        password: str,
        session_id: UUID | None = None,
        *,
        email_key: str | None = None,
        record_success: RecordSuccess = _record_success,
    ) -> Any:
        """Verify ``password`` and return the row of the user.

        The user is that of ``account_id``. With an ``email_key``, it is the user with this email,
        and ``account_id`` is ``unknown_account_id`` of it. ``session_id`` is the session of the
        request, if it has one. ``record_success`` gets the row and the attempt, records that the
        password was right, and returns whether that counts. It is not called where a second factor
        is on. If the cost of the hash is not the current one, replace the hash.

        Raise ``Unauthorized`` if the user does not exist or the password is wrong, and write the
        failure to the security log. Raise ``TooManyAttempts`` after too many failures, and
        ``Unavailable`` when the server is too busy.
        """
        async with self._login_attempts.admit(account_id, client, email_key) as attempt:
            row = attempt.user
            matches = await self._passwords.verify(
                password,
                row["password_hash"] if row is not None else None,
                requester_of(client, attempt.account_id),
                attempt.verify_deadline,
                row is not None and row["is_locked"],
            )
            # A locked login rejects the correct password too, with the same response: an attacker
            # must not learn that their guess was right.
            if (
                not matches
                or row is None
                or row["is_locked"]
                or not await self._is_success(client, row, attempt, record_success)
            ):
                write_failure = partial(
                    self._write_failure,
                    client=client,
                    account_id=attempt.account_id,
                    row=row,
                    session_id=session_id,
                    kind=EventKind.SIGN_IN_DENIED if matches else EventKind.SIGN_IN_FAILED,
                )
                await attempt.record_failure(write_failure)
                raise wrong_credentials()
        if self._passwords.is_outdated(row["password_hash"], password):
            await self._renew_hash(client, row, password)
        return row

    async def verify_password_if_set(
        self, client: Client, user_id: UUID, password: str | None, session_id: UUID
    ) -> Any:
        """Verify ``password`` like ``verify_credentials``, if the account has a password.

        Return the row of the user. Raise ``InvalidInput`` if the password is missing.
        """
        if password is not None:
            return await self.verify_credentials(client, user_id, password, session_id)
        row = await self._find_credentials(client, user_id)
        if row is None:
            raise wrong_credentials()
        if row["password_hash"] is not None:
            raise InvalidInput({"password": [BLANK]})
        return row

    async def verify_second_factor(
        self,
        client: Client,
        user_id: UUID,
        accept: Callable[[], Awaitable[bool]],
        session_id: UUID | None = None,
    ) -> Any:
        """Count an attempt on the second factor like one on the password. Return the user's row.

        ``accept`` uses the code, and returns whether it was right. The errors are those of
        ``verify_credentials``, but the subject of a wrong code is ``code``.
        """
        async with self._login_attempts.admit(user_id, client) as attempt:
            row = attempt.user
            if (
                row is None
                or row["is_locked"]
                or not await accept()
                or not await attempt.record_success()
            ):
                write_failure = partial(
                    self._write_failure,
                    client=client,
                    account_id=user_id,
                    row=row,
                    session_id=session_id,
                    kind=EventKind.TWO_FACTOR_FAILED,
                )
                await attempt.record_failure(write_failure)
                raise wrong_code()
        return row

    async def _is_success(
        self, client: Client, row: Any, attempt: Attempt, record_success: RecordSuccess
    ) -> bool:
        """Return whether the right password of ``row`` counts.

        It does not if other attempts have locked the login since ``row`` was read. The password
        alone is no success where a second factor is on: the attempt is released, and resets no
        failures.
        """
        if row["two_factor_since"] is None:
            return await record_success(row, attempt)
        current = await self._find_credentials(client, row["id"])
        return current is not None and not current["is_locked"]

    async def _find_credentials(self, client: Client, account_id: UUID) -> Any:
        return await sql.login_unlock.find_credentials(
            self._database,
            id=account_id,
            ip_key=client.ip_key,
            known_ttl=self._settings.known_address_ttl,
            max_failures=self._settings.consecutive_failure_limit or None,
        )

    async def _write_failure(
        self,
        connection: sql.Connection,
        failure: Failure,
        *,
        client: Client,
        account_id: UUID,
        row: Any,
        session_id: UUID | None,
        kind: EventKind,
    ) -> None:
        """Log a wrong password as ``kind``, and inform the owner if it locked the account.

        Do this for unknown emails too: timing must not reveal which accounts exist. Only the mail
        that unlocks a login is queued for an account alone, at most once in 12 hours. The few
        milliseconds that it takes are less than the time of a hash varies.
        """
        event = {"user_id": row["id"] if row is not None else None, "session_id": session_id}
        await write_event(connection, client, kind, **event)
        if failure.is_unlock_due or failure.is_locked_out:
            await one_time_tokens.revoke(connection, account_id, {Purpose.TWO_FACTOR})
        if failure.is_unlock_due:
            await queue_unlock_email(connection, client, account_id, settings=self._settings)
        if failure.is_locked_out:
            await write_event(connection, client, EventKind.THROTTLED, **event)
            # The mail that unlocks the login tells the owner of the failures too.
            if not failure.is_unlock_due:
                await queue_lockout_email(
                    connection,
                    client,
                    account_id,
                    throttle=self._throttle,
                    settings=self._settings,
                )

    async def _renew_hash(self, client: Client, row: Any, password: str) -> None:
        """Replace the password hash with one of the current cost."""
        # A full hash queue must not reject the correct password. The next login tries again.
        with contextlib.suppress(Unavailable):
            new_hash = await self._passwords.hash(password, requester_of(client, row["id"]))
            await sql.users.renew_password_hash(
                self._database, id=row["id"], old_hash=row["password_hash"], new_hash=new_hash
            )


def requester_of(client: Client, account_id: UUID) -> Requester:
    """Return the keys under which the hash queue counts a job of ``client``.

    A customer who has a whole /48 network gets the share of one requester.
    """
    return Requester(client.site_key or client.ip_key, account_id)


def wrong_credentials() -> Unauthorized:
    """Return the error for a wrong password. It is the same for an unknown email."""
    return Unauthorized("credentials", "invalid", code=ErrorCode.INVALID_CREDENTIALS)


def wrong_code() -> Unauthorized:
    """Return the error for a wrong or used code of the second factor."""
    return Unauthorized("code", "is invalid", code=ErrorCode.CODE_INVALID)


CREDENTIAL_VERIFIER = web.AppKey("credential_verifier", CredentialVerifier)
