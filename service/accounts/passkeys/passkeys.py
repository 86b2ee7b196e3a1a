"""List, add, rename and delete the passkeys of the current user."""

from typing import Any

import asyncpg
import voluptuous as vol
from aiohttp import web

import sql
from service.accounts import fields, one_time_tokens
from service.accounts.email_verification import EmailNotVerified
from service.accounts.notices import queue_notice
from service.accounts.one_time_tokens import Purpose
from service.accounts.passkeys.authenticators import default_name
from service.accounts.passkeys.ceremonies import (
    InvalidCredential,
    challenge_of,
    verify_creation,
)
from service.accounts.passkeys.credentials import CREATED_CREDENTIAL
from service.accounts.passkeys.options import CREATION_OPTIONS, creation_options
from service.accounts.passkeys.relying_party import RELYING_PARTY
from service.accounts.security_log import EventKind, write_event
from service.accounts.sessions.opaque_tokens import digest_of
from service.accounts.sessions.reauthentication import ReauthenticationRequired
from service.accounts.sessions.sessions import require_active_session
from service.accounts.sign_in_methods import LastSignInMethod, require_sign_in_method
from service.accounts.throttling.throttle import THROTTLE
from service.accounts.user import User
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import Client, client_of
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError, Conflict, InvalidInput, NotFound
from service.http.openapi.schemas import TIME, Named, array_of, nullable, object_of, string
from service.http.parameters import QueryString, flag, path_uuid
from service.http.responses import json_response, timestamp
from service.http.routes import RouteTableDef
from service.http.validation import boolean, required

routes = RouteTableDef(tag="Passkeys")

MAX_PASSKEYS = 20
"""The maximum of passkeys of one user."""

ID = string(example="5c0d2c9e-91b5-4c0e-a6a1-0f5b5b0f7f0d", form="uuid")
PASSKEY = Named(
    "Passkey",
    object_of(
        id=ID,
        name=string(example="Google Password Manager"),
        created_at=TIME,
        last_used_at=nullable(TIME),
    ),
)
# The path of the options has no other method, so `options` is no id.
PATH = "/api/user/passkeys/{id:[0-9A-Fa-f-]+}"
REMOVAL = QueryString(end_other_sessions=(flag, False))
REAUTHENTICATION_REQUIRED = ReauthenticationRequired("password")
CHALLENGE_INVALID = InvalidInput({"challenge": ["is unknown, was used or has expired"]})
CREDENTIAL_INVALID = InvalidInput({"credential": ["cannot be verified"]})


class TooManyPasskeys(ApiError):
    """403: the user has ``MAX_PASSKEYS`` passkeys."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.PASSKEY_LIMIT_REACHED, {"passkey": ["limit reached"]})


@routes.get(
    "/api/user/passkeys",
    operation_id="ListPasskeys",
    responses={200: object_of(passkeys=array_of(PASSKEY))},
)
async def list_passkeys(request: web.Request) -> web.StreamResponse:
    """List the passkeys of the current user, oldest first."""
    rows = await sql.passkeys.list(request.app[DATABASE], user_id=request["user"].id)
    return json_response({"passkeys": [_passkey(row) for row in rows]})


@routes.post(
    "/api/user/passkeys/options",
    operation_id="GetPasskeyCreationOptions",
    fresh=True,
    responses={200: object_of(publicKey=CREATION_OPTIONS)},
    errors=(REAUTHENTICATION_REQUIRED, EmailNotVerified(), TooManyPasskeys()),
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
        _, known = await _lock_for_addition(connection, user)
        token = await one_time_tokens.issue(
            connection,
            Purpose.PASSKEY_REGISTRATION,
            user.id,
            data={"session_id": str(user.session_id)},
        )
        return token, known

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
        REAUTHENTICATION_REQUIRED,
        CHALLENGE_INVALID,
        CREDENTIAL_INVALID,
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
        raise CREDENTIAL_INVALID from None
    if not await sql.passkeys.consume_challenge(
        app[DATABASE],
        digest=digest_of(challenge),
        purpose=Purpose.PASSKEY_REGISTRATION,
        user_id=user.id,
        session_id=str(user.session_id),
    ):
        raise CHALLENGE_INVALID
    try:
        created = verify_creation(app[RELYING_PARTY], credential, challenge)
    except InvalidCredential:
        raise CREDENTIAL_INVALID from None

    async def insert(connection: sql.Connection) -> Any:
        owner, _ = await _lock_for_addition(connection, user)
        row = await sql.passkeys.insert(
            connection,
            user_id=user.id,
            credential_id=created.id,
            public_key=created.public_key,
            sign_count=created.sign_count,
            transports=credential["response"]["transports"],
            name=given.get("name") or default_name(created.aaguid),
        )
        if given["end_other_sessions"]:
            await _end_other_sessions(connection, client, user, EventKind.PASSKEY_ADDED)
        await write_event(
            connection,
            client,
            EventKind.PASSKEY_ADDED,
            user_id=user.id,
            session_id=user.session_id,
        )
        await queue_notice(
            connection,
            client,
            "passkey_added",
            user_id=user.id,
            email=owner["email"],
            email_key=owner["email_key"],
            throttle=app[THROTTLE],
            settings=app[SETTINGS],
            data={"passkey_id": str(row["id"])},
        )
        return row

    try:
        row = await app[DATABASE].transact(insert)
    except asyncpg.UniqueViolationError:
        raise Conflict("passkey") from None
    return json_response({"passkey": _passkey(row)}, status=201)


@routes.patch(
    PATH,
    operation_id="UpdatePasskey",
    fresh=True,
    body=vol.Schema({required("name"): fields.passkey_name}, extra=vol.REMOVE_EXTRA),
    parameters={"id": ID},
    responses={200: object_of(passkey=PASSKEY)},
    errors=(REAUTHENTICATION_REQUIRED, NotFound("passkey")),
)
async def rename(request: web.Request) -> web.StreamResponse:
    """Change the name of a passkey of the current user. Respond 404 for any other id."""
    passkey_id = path_uuid(request, "id", "passkey")
    given = await read_body(request)
    row = await sql.passkeys.rename(
        request.app[DATABASE],
        id=passkey_id,
        user_id=request["user"].id,
        name=given["name"],
    )
    if row is None:
        raise NotFound("passkey")
    return json_response({"passkey": _passkey(row)})


@routes.delete(
    PATH,
    operation_id="DeletePasskey",
    fresh=True,
    query=REMOVAL,
    parameters={"id": ID},
    responses={204: None},
    errors=(REAUTHENTICATION_REQUIRED, NotFound("passkey"), LastSignInMethod("passkey")),
)
async def delete(request: web.Request) -> web.StreamResponse:
    """Delete a passkey of the current user.

    Respond 404 for any other id, and 409 if the user could no longer log in. Tell the owner by
    mail. The other sessions that began with a passkey need another proof before they change
    credentials. With ``end_other_sessions``, revoke all other sessions.
    """
    passkey_id = path_uuid(request, "id", "passkey")
    ends_sessions = REMOVAL.read(request)["end_other_sessions"]
    user: User = request["user"]
    client, app = client_of(request), request.app

    async def delete_unless_last(connection: sql.Connection) -> None:
        owner = await _lock(connection, user)
        if await sql.passkeys.delete(connection, id=passkey_id, user_id=user.id) is None:
            raise NotFound("passkey")
        await require_sign_in_method(connection, user.id, "passkey")
        if ends_sessions:
            await _end_other_sessions(connection, client, user, EventKind.PASSKEY_REMOVED)
        await sql.passkeys.end_proofs(
            connection, user_id=user.id, except_session_id=user.session_id
        )
        await write_event(
            connection,
            client,
            EventKind.PASSKEY_REMOVED,
            user_id=user.id,
            session_id=user.session_id,
        )
        await queue_notice(
            connection,
            client,
            "passkey_removed",
            user_id=user.id,
            email=owner["email"],
            email_key=owner["email_key"],
            throttle=app[THROTTLE],
            settings=app[SETTINGS],
        )

    await app[DATABASE].transact(delete_unless_last)
    return web.Response(status=204)


async def _lock(connection: sql.Connection, user: User) -> Any:
    """Lock the row of ``user``. Return it, with ``email``, ``email_key`` and ``is_verified``.

    Raise ``Unauthorized`` if the session was ended meanwhile.
    """
    await sql.sessions.lock_user(connection, user_id=user.id)
    await require_active_session(connection, user)
    owner = await sql.email_verification.find(connection, user_id=user.id)
    assert owner is not None, "a user with an active session exists"
    return owner


async def _lock_for_addition(connection: sql.Connection, user: User) -> tuple[Any, list[Any]]:
    """Lock the row of ``user``, and check that they may add a passkey.

    Return the row and the passkeys. The lock is held until the transaction ends, so that
    simultaneous requests add no more than ``MAX_PASSKEYS``. Raise ``EmailNotVerified`` and
    ``TooManyPasskeys``: with a passkey on an email that they do not have, an attacker would keep
    the account of the owner who verifies it later.
    """
    owner = await _lock(connection, user)
    if not owner["is_verified"]:
        raise EmailNotVerified
    passkeys = await sql.passkeys.list(connection, user_id=user.id)
    if len(passkeys) >= MAX_PASSKEYS:
        raise TooManyPasskeys
    return owner, passkeys


async def _end_other_sessions(
    connection: sql.Connection, client: Client, user: User, reason: EventKind
) -> None:
    await sql.sessions.end_others(
        connection,
        user_id=user.id,
        except_id=user.session_id,
        reason=reason,
        ip=client.ip,
        user_agent=client.user_agent,
    )


def _passkey(row: Any) -> dict[str, Any]:
    used = row["last_used_at"]
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "created_at": timestamp(row["created_at"]),
        "last_used_at": timestamp(used) if used is not None else None,
    }
