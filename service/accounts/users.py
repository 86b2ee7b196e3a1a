"""Register and log in users."""

from typing import Any

from aiohttp import web

import sql
from service.accounts import fields
from service.accounts.account_lock import AccountLocked
from service.accounts.email_verification import EmailNotVerified, queue_verification
from service.accounts.one_time_tokens import TOKEN
from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.passwords.policy import PASSWORD_POLICY
from service.accounts.passwords.verification import (
    CREDENTIAL_VERIFIER,
    requester_of,
    wrong_credentials,
)
from service.accounts.responses import LOGIN_RESPONSE
from service.accounts.sessions.sessions import SessionLimitReached
from service.accounts.sign_in import SIGN_IN, TwoFactorRequired
from service.accounts.throttling.login_attempts import unknown_account_id
from service.accounts.throttling.throttle import THROTTLE
from service.accounts.uniqueness import check_availability, map_unique_violations
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import client_of
from service.http.errors import Conflict, TooManyAttempts
from service.http.openapi.schemas import ByDialect
from service.http.routes import Auth, RouteTableDef
from service.http.validation import required, wrapped

routes = RouteTableDef(tag="Accounts")

REGISTRATION = wrapped(
    "user",
    {
        required("username"): fields.username,
        required("email"): fields.email,
        required("password"): fields.new_password,
    },
)


@routes.post(
    "/api/users",
    operation_id="CreateUser",
    auth=Auth.NONE,
    body=REGISTRATION,
    responses={ByDialect(default=200, strict=201): LOGIN_RESPONSE},
    errors=(
        EmailNotVerified(),
        Conflict("email", "username"),
        TooManyAttempts("registration", retry_after=60),
    ),
)
async def register(request: web.Request) -> web.StreamResponse:
    """Register a user.

    Respond 200 (201 with ``REALWORLD_STRICT``) with the user and the tokens of a new session, or
    409 when the username or the email is taken. Send a mail with a link that verifies the email.
    With ``REQUIRE_VERIFIED_EMAIL`` the account is registered, and the response is 403 without a
    session.
    """
    find_errors = request.app[PASSWORD_POLICY].find_errors()
    given = (await read_body(request, find_errors))["user"]
    client, database, throttle = client_of(request), request.app[DATABASE], request.app[THROTTLE]
    await throttle.admit_registration(client)
    keys = {f"{name}_key": key(given[name]) for name, key in fields.KEYS.items()}
    requester = requester_of(client, unknown_account_id(keys["email_key"]))
    try:
        await check_availability(database, keys)
        password_hash = await request.app[PASSWORDS].hash(given["password"], requester)

        async def insert_user(connection: sql.Connection) -> Any:
            row = await sql.users.insert(
                connection,
                username=given["username"],
                email=given["email"],
                password_hash=password_hash,
                **keys,
            )
            await queue_verification(
                connection,
                client,
                row,
                throttle=throttle,
                settings=request.app[SETTINGS],
            )
            return row

        async with map_unique_violations(database, keys):
            return await request.app[SIGN_IN].finish_registration(client, insert_user)
    except Conflict:
        await throttle.admit_conflict(client)
        raise


LOGIN = wrapped(
    "user",
    {required("email"): fields.email, required("password"): fields.given_password},
)


@routes.post(
    "/api/users/login",
    operation_id="Login",
    auth=Auth.NONE,
    body=LOGIN,
    responses={200: LOGIN_RESPONSE},
    errors=(
        wrong_credentials(),
        TwoFactorRequired(TOKEN.example),
        SessionLimitReached(),
        EmailNotVerified(),
        AccountLocked(),
        TooManyAttempts("credentials", retry_after=60),
    ),
)
async def login(request: web.Request) -> web.StreamResponse:
    """Log in.

    Respond 200 with the user and the tokens of a new session. If the account has a second factor,
    respond 401 with a challenge: see ``LoginWithSecondFactor``. Respond 401 to wrong credentials
    and 429 after too many of them. Each has the same text and takes the same time whether or not
    the account exists. Respond 401 to every password while the login is locked. Respond 403 when
    ``SESSION_LIMIT`` is reached and ``SESSION_LIMIT_POLICY`` is ``deny``, when
    ``REQUIRE_VERIFIED_EMAIL`` is set and the email is not verified, and when an administrator has
    locked the account.
    """
    given = (await read_body(request))["user"]
    client, email_key = client_of(request), fields.email_key(given["email"])
    verifier = request.app[CREDENTIAL_VERIFIER]
    return await request.app[SIGN_IN].log_in(client, email_key, given["password"], verifier)
