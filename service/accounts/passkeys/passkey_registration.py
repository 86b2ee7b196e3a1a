"""Add a passkey to the account of the current user."""

from typing import Any

import asyncpg
import voluptuous as vol
from aiohttp import web

import sql
from service.accounts import fields, one_time_tokens
from service.accounts.credential_changes import apply_side_effects, lock_owner
from service.accounts.email_verification import EmailNotVerified
from service.accounts.one_time_tokens import Purpose
from service.accounts.passkeys.authenticators import default_name
from service.accounts.passkeys.ceremonies import InvalidCredential, challenge_of, verify_creation
from service.accounts.passkeys.credentials import CREATED_CREDENTIAL
from service.accounts.passkeys.library import load_library
from service.accounts.passkeys.options import CREATION_OPTIONS, creation_options
from service.accounts.passkeys.passkeys import PASSKEY, passkey_json
from service.accounts.passkeys.relying_party import RELYING_PARTY
from service.accounts.security_log import EventKind
from service.accounts.sessions.opaque_tokens import digest_of
from service.accounts.sessions.reauthentication import ReauthenticationRequired
from service.accounts.user import User
from service.database.pool import DATABASE
from service.http.bodies import read_body
from service.http.client import client_of
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError, Conflict, InvalidInput
from service.http.openapi.schemas import object_of
from service.http.responses import json_response
from service.http.routes import RouteTableDef
from service.http.validation import boolean, required

routes = RouteTableDef(tag="Passkeys")

MAX_PASSKEYS = 20
"""The maximum of passkeys of one user."""


class TooManyPasskeys(ApiError):
    """403: the user has ``MAX_PASSKEYS`` passkeys."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.PASSKEY_LIMIT_REACHED, {"passkey": ["limit reached"]})


def unknown_challenge() -> InvalidInput:
    """Return the error for a challenge that this session cannot use."""
    return InvalidInput({"challenge": ["is unknown, was used or has expired"]})


def invalid_credential() -> InvalidInput:
    """Return the error for a response that does not pass the checks."""
    return InvalidInput({"credential": ["cannot be verified"]})


@routes.post(
    "/api/user/passkeys/options",
    operation_id="GetPasskeyCreationOptions",
    fresh=True,
    setup=True,
    responses={200: object_of(publicKey=CREATION_OPTIONS)},
    errors=(ReauthenticationRequired("password"), EmailNotVerified(), TooManyPasskeys()),
)
async def get_options(request: web.Request) -> web.StreamResponse:
    """Get the options to create a passkey.

    ``publicKey`` is the JSON for ``PublicKeyCredential.parseCreationOptionsFromJSON()``, and the
    result of that is for ``navigator.credentials.create()``. The challenge is for this session, for
    five minutes and for one use. Respond 403 while the email is not verified, and when the user has
    20 passkeys.
    """
    user: User = request["user"]
    party = request.app[RELYING_PARTY]

    async def issue_challenge(connection: sql.Connection) -> tuple[str, list[Any]]:
        known = await _lock_for_addition(connection, user)
        token = await one_time_tokens.issue(
            connection,
            Purpose.PASSKEY_REGISTRATION,
            user.id,
            data={"session_id": str(user.session_id)},
        )
        return token, known

    await load_library()
    challenge, known = await request.app[DATABASE].transact(issue_challenge)
    options = creation_options(
        party,
        challenge,
        user_id=user.id,
        name=user.email,
        display_name=user.username,
        known=known,
    )
    return json_response({"publicKey": options})


@routes.post(
    "/api/user/passkeys",
    operation_id="CreatePasskey",
    fresh=True,
    setup=True,
    body=vol.Schema(
        {
            required("credential"): CREATED_CREDENTIAL,
            vol.Optional("name"): fields.passkey_name,
            vol.Optional("end_other_sessions", default=False): boolean,
        },
        extra=vol.REMOVE_EXTRA,
    ),
    responses={201: object_of(passkey=PASSKEY)},
    errors=(
        ReauthenticationRequired("password"),
        unknown_challenge(),
        invalid_credential(),
        EmailNotVerified(),
        TooManyPasskeys(),
        Conflict("passkey"),
    ),
)
async def add(request: web.Request) -> web.StreamResponse:
    """Create a passkey.

    ``credential`` is the response to ``navigator.credentials.create()``, as JSON. Without ``name``,
    the passkey is named after its authenticator. Respond 409 when an account has this passkey. Tell
    the owner by mail. With ``end_other_sessions``, revoke all other sessions.
    """
    given = await read_body(request)
    user: User = request["user"]
    client, app = client_of(request), request.app
    credential = given["credential"]
    try:
        challenge = challenge_of(credential)
    except InvalidCredential:
        raise invalid_credential() from None
    if not await sql.passkey_registration.consume_challenge(
        app[DATABASE],
        digest=digest_of(challenge),
        purpose=Purpose.PASSKEY_REGISTRATION,
        user_id=user.id,
        session_id=str(user.session_id),
    ):
        raise unknown_challenge()
    await load_library()
    try:
        created = verify_creation(app[RELYING_PARTY], credential, challenge)
    except InvalidCredential:
        raise invalid_credential() from None

    async def insert(connection: sql.Connection) -> Any:
        await _lock_for_addition(connection, user)
        row = await sql.passkey_registration.insert(
            connection,
            user_id=user.id,
            credential_id=created.id,
            public_key=created.public_key,
            sign_count=created.sign_count,
            transports=credential["response"]["transports"],
            name=given.get("name") or default_name(created.aaguid),
        )
        await apply_side_effects(
            app,
            connection,
            client,
            user,
            EventKind.PASSKEY_ADDED,
            "passkey_added",
            end_others=given["end_other_sessions"],
            data={"passkey_id": str(row["id"])},
        )
        return row

    try:
        row = await app[DATABASE].transact(insert)
    except asyncpg.UniqueViolationError:
        raise Conflict("passkey") from None
    return json_response({"passkey": passkey_json(row)}, status=201)


async def _lock_for_addition(connection: sql.Connection, user: User) -> list[Any]:
    """Lock the row of ``user``, and check that they may add a passkey. Return their passkeys.

    The lock is held until the transaction ends, so that simultaneous requests add no more than
    ``MAX_PASSKEYS``. Raise ``EmailNotVerified`` and ``TooManyPasskeys``: with a passkey on an email
    that they do not have, an attacker would keep the account of the owner who verifies it later.
    """
    await lock_owner(connection, user)
    owner = await sql.email_verification.find(connection, user_id=user.id)
    if owner is None or not owner["is_verified"]:
        raise EmailNotVerified
    passkeys = await sql.passkeys.list(connection, user_id=user.id)
    if len(passkeys) >= MAX_PASSKEYS:
        raise TooManyPasskeys
    return passkeys
