"""Log in with a passkey, without a username and without a password."""

from functools import partial

import voluptuous as vol
from aiohttp import web

from service.accounts.account_lock import AccountLocked
from service.accounts.email_verification import EmailNotVerified
from service.accounts.passkeys.credentials import ASSERTED_CREDENTIAL
from service.accounts.passkeys.options import REQUEST_OPTIONS
from service.accounts.passkeys.passkey_verification import (
    PASSKEY_VERIFIER,
    ChallengeInvalid,
    CounterWentBack,
    PasskeyInvalid,
    PasskeyUnknown,
)
from service.accounts.responses import LOGIN_RESPONSE
from service.accounts.sessions.authentication_methods import PASSKEY
from service.accounts.sessions.sessions import SessionLimitReached
from service.accounts.sign_in import SIGN_IN
from service.http.bodies import read_body
from service.http.client import client_of
from service.http.errors import TooManyAttempts
from service.http.openapi.schemas import object_of
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.http.validation import required

routes = RouteTableDef(tag="Passkeys")


@routes.post(
    "/api/users/login/passkey/options",
    operation_id="GetPasskeyRequestOptions",
    auth=Auth.NONE,
    responses={200: object_of(publicKey=REQUEST_OPTIONS)},
    errors=(TooManyAttempts("passkey", retry_after=60),),
)
async def get_options(request: web.Request) -> web.StreamResponse:
    """Get the options to log in with a passkey.

    ``publicKey`` is the JSON for ``PublicKeyCredential.parseRequestOptionsFromJSON()``, and the
    result of that is for ``navigator.credentials.get()``. The challenge is for five minutes and for
    one use: for a login, or for a reauthentication.
    """
    options = await request.app[PASSKEY_VERIFIER].issue_challenge(client_of(request))
    return json_response({"publicKey": options})


@routes.post(
    "/api/users/login/passkey",
    operation_id="LoginWithPasskey",
    auth=Auth.NONE,
    body=vol.Schema({required("credential"): ASSERTED_CREDENTIAL}, extra=vol.REMOVE_EXTRA),
    responses={200: LOGIN_RESPONSE},
    errors=(
        ChallengeInvalid(),
        PasskeyUnknown(),
        PasskeyInvalid(),
        SessionLimitReached(),
        EmailNotVerified(),
        AccountLocked(),
        TooManyAttempts("passkey", retry_after=60),
    ),
)
async def login(request: web.Request) -> web.StreamResponse:
    """Log in with a passkey.

    ``credential`` is the response to ``navigator.credentials.get()``, as JSON. A passkey needs no
    second factor. Respond 200 with the user and the tokens of a new session. Respond 401 if the
    challenge or the passkey is not valid, and 403 as a login with a password does.
    """
    credential = (await read_body(request))["credential"]
    client, verifier = client_of(request), request.app[PASSKEY_VERIFIER]
    passkey = await verifier.verify(client, credential)
    try:
        return await request.app[SIGN_IN].finish(
            client, {"id": passkey.user_id}, PASSKEY, confirm=partial(verifier.use, passkey=passkey)
        )
    except CounterWentBack as error:
        await verifier.reject_counter(client, error)
