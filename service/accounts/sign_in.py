"""The end of every login and registration, and the only code that opens a session."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

import sql
from service.accounts.passwords.verification import wrong_credentials
from service.accounts.responses import login_response
from service.accounts.security_log import EventKind, write_event
from service.accounts.sessions.access_tokens import AccessTokens
from service.accounts.sessions.sessions import PasswordChanged, SessionLimitReached, open_session
from service.database.pool import Database
from service.http.client import Client
from service.settings.settings import Settings


class SignIn:
    """Open a session within the session limit, write the event, and return the response."""

    def __init__(self, database: Database, tokens: AccessTokens, settings: Settings) -> None:
        self._database = database
        self._tokens = tokens
        self._settings = settings

    async def finish(self, client: Client, user: Any) -> web.StreamResponse:
        """End a login of ``client``: 200 with the tokens of a new session.

        ``user`` is the row of a user who has proved who they are. Raise ``Unauthorized`` if their
        password has changed since ``user`` was read, and ``SessionLimitReached`` when the limit is
        reached and ``SESSION_LIMIT_POLICY`` is ``deny``. Both are written to the security log.
        """

        async def sign_in(connection: sql.Connection) -> web.StreamResponse:
            return await self._open_session(connection, client, user, EventKind.SIGNED_IN)

        try:
            return await self._database.transact(sign_in)
        except PasswordChanged:
            await write_event(self._database, client, EventKind.SIGN_IN_FAILED, user_id=user["id"])
            raise wrong_credentials() from None
        except SessionLimitReached:
            # The client knows the password. The owner must see this in the log, even without a
            # session.
            await write_event(self._database, client, EventKind.SIGN_IN_DENIED, user_id=user["id"])
            raise

    async def finish_registration(
        self, client: Client, insert_user: Callable[[sql.Connection], Awaitable[Any]]
    ) -> web.StreamResponse:
        """End a registration: 200 (201 with ``REALWORLD_STRICT``) with the tokens of a session.

        ``insert_user`` inserts the user and returns the row. It runs in the transaction that opens
        the session. Raise its errors.
        """
        status = 201 if self._settings.realworld_strict else 200

        async def register(connection: sql.Connection) -> web.StreamResponse:
            user = await insert_user(connection)
            return await self._open_session(
                connection, client, user, EventKind.REGISTERED, status=status
            )

        return await self._database.transact(register)

    async def _open_session(
        self,
        connection: sql.Connection,
        client: Client,
        user: Any,
        kind: EventKind,
        *,
        status: int = 200,
    ) -> web.StreamResponse:
        session = await open_session(
            connection,
            client,
            self._settings,
            user_id=user["id"],
            password_version=user["password_version"],
            kind=kind,
        )
        return login_response(user, session, self._tokens, self._settings, status=status)


SIGN_IN = web.AppKey("sign_in", SignIn)
