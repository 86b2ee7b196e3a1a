"""Fresh proof: sensitive routes require that the person proved lately who they are.

A session remembers when and how its person last proved who they are (``auth_time`` and ``amr``, as
in OpenID Connect). OWASP Authentication Cheat Sheet, "Require Re-authentication for Sensitive
Features": a stolen access token alone must not change the credentials of an account.

A reauthentication replaces the session, so that the thief of an older token does not profit from
the new proof (OWASP Session Management Cheat Sheet, "Renew the Session ID After Any Privilege Level
Change").
"""

import time
from typing import Any

import voluptuous as vol
from aiohttp import web

import sql
from service.accounts import fields
from service.accounts.passwords.verification import (
    CREDENTIAL_VERIFIER,
    wrong_code,
    wrong_credentials,
)
from service.accounts.sessions.authentication import TOKENS, revoked_token
from service.accounts.sessions.authentication_methods import PASSWORD, PASSWORD_AND_CODE, Method
from service.accounts.sessions.opaque_tokens import new_token
from service.accounts.sessions.refresh import REFRESHED, tokens_response
from service.accounts.sessions.sessions import require_active_session
from service.accounts.two_factor.codes import ANY_CODE
from service.accounts.two_factor.second_factor import SECOND_FACTOR, two_factor_unavailable
from service.accounts.user import User
from service.database.pool import DATABASE, Database
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import client_of
from service.http.error_codes import ErrorCode
from service.http.errors import BLANK, ApiError, InvalidInput, TooManyAttempts
from service.http.routes import RouteTableDef
from service.http.validation import required

routes = RouteTableDef(tag="Sessions")


class ReauthenticationRequired(ApiError):
    """403: the session has no fresh proof. ``methods`` names what the account can prove it with."""

    def __init__(self, *methods: str) -> None:
        super().__init__(
            ErrorCode.REAUTHENTICATION_REQUIRED,
            {"session": ["requires reauthentication"]},
            details={"methods": list(methods)},
        )


class FreshProof:
    """Check that the person of a session proved lately who they are."""

    def __init__(self, database: Database, ttl: int) -> None:
        """``ttl`` is the lifetime of a proof in seconds."""
        self._database = database
        self._ttl = ttl

    async def require(self, user: User) -> None:
        """Raise ``ReauthenticationRequired`` unless the session of ``user`` has a fresh proof.

        With a second factor, the proof must have two factors. The check needs no query. Only the
        error asks the database for the methods of the account. The time of the proof is from the
        clock of the database. A difference between the clocks changes the lifetime of the proof by
        the same amount.
        """
        is_recent = time.time() - user.auth_time <= self._ttl
        if is_recent and (not user.two_factor or Method.MULTIPLE in user.amr):
            return
        row = await sql.reauthentication.find_methods(self._database, user_id=user.id)
        if row is None:
            raise revoked_token()
        methods = ["password"] if row["has_password"] else []
        if user.two_factor:
            methods.append("code")
        raise ReauthenticationRequired(*methods)


REAUTHENTICATION = vol.Schema(
    {required("password"): fields.given_password, "code": ANY_CODE}, extra=vol.REMOVE_EXTRA
)


@routes.post(
    "/api/auth/reauthenticate",
    operation_id="Reauthenticate",
    setup=True,
    body=REAUTHENTICATION,
    responses={200: REFRESHED},
    errors=(
        InvalidInput({"code": [BLANK]}),
        wrong_credentials(),
        wrong_code(),
        TooManyAttempts("credentials", retry_after=60),
        two_factor_unavailable(),
    ),
)
async def reauthenticate(request: web.Request) -> web.StreamResponse:
    """Verify the current user again.

    The response has a new access token and a new refresh token. The older tokens of this session
    are revoked. ``code`` is the code of the second factor, which is required where that is on.
    Respond 401 to a wrong password or code and 429 after too many of them, as a login does.
    """
    given = await read_body(request)
    client, user, settings = client_of(request), request["user"], request.app[SETTINGS]
    if user.two_factor and "code" not in given:
        raise InvalidInput({"code": [BLANK]})
    row = await request.app[CREDENTIAL_VERIFIER].verify_credentials(
        client, user.id, given["password"], user.session_id
    )
    methods: tuple[Method, ...] = PASSWORD
    if row["two_factor_since"] is not None:
        await request.app[SECOND_FACTOR].verify_code(
            client, user.id, given.get("code", ""), user.session_id
        )
        methods = PASSWORD_AND_CODE
    token = new_token()

    async def replace_unless_changed(connection: sql.Connection) -> Any:
        # A password change has ended this session, or this session has changed the password.
        if await sql.sessions.lock_user(connection, user_id=user.id) != row["password_version"]:
            raise wrong_credentials()
        await require_active_session(connection, user)
        return await sql.reauthentication.replace_session(
            connection,
            id=user.session_id,
            user_id=user.id,
            amr=list(methods),
            digest=token.digest,
            refresh_token_ttl=settings.refresh_token_ttl,
            ip=client.ip,
            user_agent=client.user_agent,
        )

    session = await request.app[DATABASE].transact(replace_unless_changed)
    if session is None:
        raise revoked_token()
    access = request.app[TOKENS].issue(user.id, session["id"], session["expires_at"].timestamp())
    return tokens_response(access, token.plain)
