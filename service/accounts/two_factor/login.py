"""The second step of a login: a challenge and a code of the second factor open the session.

The first step gives a challenge instead of a session. It lives five minutes, takes five codes and
is used once. It names the account: nothing that a client sends beside it does.
"""

from typing import Any

import asyncpg
import orjson
import voluptuous as vol
from aiohttp import web

import sql
from service.accounts.account_lock import AccountLocked
from service.accounts.email_verification import EmailNotVerified
from service.accounts.identity_providers.errors import IdentityUnknown, ProviderCodeInvalid
from service.accounts.identity_providers.identity_proof import IdentityProof
from service.accounts.identity_providers.providers import PROVIDERS
from service.accounts.one_time_tokens import TOKEN
from service.accounts.passwords.verification import wrong_code
from service.accounts.responses import LOGIN_RESPONSE
from service.accounts.sessions.authentication_methods import Method
from service.accounts.sessions.opaque_tokens import digest_of
from service.accounts.sessions.sessions import SessionLimitReached
from service.accounts.sign_in import SIGN_IN
from service.accounts.two_factor.codes import ANY_CODE
from service.accounts.two_factor.second_factor import SECOND_FACTOR, two_factor_unavailable
from service.database.pool import DATABASE
from service.http.bodies import read_body
from service.http.client import client_of
from service.http.error_codes import ErrorCode
from service.http.errors import TooManyAttempts, Unauthorized
from service.http.routes import Auth, RouteTableDef
from service.http.validation import required

routes = RouteTableDef(tag="Accounts")

MAX_ATTEMPTS = 5
BODY = vol.Schema(
    {required("challenge"): TOKEN, required("code"): ANY_CODE}, extra=vol.REMOVE_EXTRA
)


def invalid_challenge() -> Unauthorized:
    """Return the error for a challenge that cannot be used. The person logs in again."""
    return Unauthorized("challenge", "is invalid", code=ErrorCode.CHALLENGE_INVALID)


@routes.post(
    "/api/users/login/two-factor",
    operation_id="LoginWithSecondFactor",
    auth=Auth.NONE,
    body=BODY,
    responses={200: LOGIN_RESPONSE},
    errors=(
        wrong_code(),
        invalid_challenge(),
        SessionLimitReached(),
        EmailNotVerified(),
        AccountLocked(),
        TooManyAttempts("credentials", retry_after=60),
        two_factor_unavailable(),
    ),
)
async def login(request: web.Request) -> web.StreamResponse:
    """Log in with a challenge and a code of the second factor.

    ``challenge`` is from the response to the first step. ``code`` is the current code of the
    authenticator app, or a recovery code. Respond 401 to a wrong or used code, and to a challenge
    that is unknown, was used, is older than five minutes or had five codes. Wrong codes count like
    wrong passwords: respond 429 after too many of them.
    """
    given = await read_body(request)
    client, app = client_of(request), request.app
    digest = digest_of(given["challenge"])
    challenge = await sql.login.try_challenge(
        app[DATABASE], digest=digest, max_attempts=MAX_ATTEMPTS
    )
    if challenge is None:
        raise invalid_challenge()
    first_step: Any = orjson.loads(challenge["data"])
    user = await app[SECOND_FACTOR].verify_code(client, challenge["user_id"], given["code"])
    # A change of the password or of the second factor ends open challenges.
    if user["password_version"] != first_step["password_version"]:
        raise invalid_challenge()
    proof = IdentityProof.restore(first_step.get("proof"))
    # The operator may have removed the provider from the settings since the first step.
    if proof is not None and proof.issuer not in app[PROVIDERS].issuers:
        raise invalid_challenge()

    async def use_challenge(connection: sql.Connection) -> Any:
        await sql.sessions.lock_user(connection, user_id=user["id"])
        if await sql.login.use_challenge(connection, digest=digest) is None:
            raise invalid_challenge()
        return user

    methods = (*first_step["amr"], Method.ONE_TIME_CODE, Method.MULTIPLE)
    try:
        return await app[SIGN_IN].finish(client, user, methods, use_challenge, proof)
    except (asyncpg.UniqueViolationError, IdentityUnknown, ProviderCodeInvalid):
        # The identity was linked elsewhere or unlinked since the first step, or the exchange code
        # of the first step was presented again.
        raise invalid_challenge() from None
