"""Turn the second factor on and off: an authenticator app, with ten recovery codes.

An enrolment has two steps. The first returns a new secret. The second confirms it with a code
within an hour: until then an earlier secret stays in force, and a login asks for nothing new. No
factor can be added while the email is not verified: a stranger who registers the email of another
person must not lock them out of it.
"""

from typing import Any

import voluptuous as vol
from aiohttp import web

import sql
from service.accounts import fields, one_time_tokens
from service.accounts.email_verification import EmailNotVerified
from service.accounts.encryption import ENCRYPTION, DecryptionError, NoEncryptionKey
from service.accounts.one_time_tokens import Purpose
from service.accounts.passwords.verification import (
    CREDENTIAL_VERIFIER,
    wrong_code,
    wrong_credentials,
)
from service.accounts.security_log import EventKind, write_event
from service.accounts.sessions.reauthentication import ReauthenticationRequired
from service.accounts.sessions.sessions import end_other_sessions, require_active_session
from service.accounts.throttling import known_ips
from service.accounts.throttling.throttle import THROTTLE
from service.accounts.two_factor import recovery_codes, totp
from service.accounts.two_factor.codes import ANY_CODE
from service.accounts.two_factor.removal import remove_second_factor
from service.accounts.two_factor.second_factor import (
    SECOND_FACTOR,
    queue_factor_notice,
    two_factor_unavailable,
)
from service.accounts.user import User
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import Client, client_of
from service.http.errors import NotFound, TooManyAttempts
from service.http.openapi.schemas import (
    TIME,
    array_of,
    boolean,
    integer,
    nullable,
    object_of,
    string,
)
from service.http.responses import json_response, timestamp
from service.http.routes import RouteTableDef
from service.http.validation import required

routes = RouteTableDef(tag="Accounts")

PENDING_TTL = 3600
"""Seconds that a secret waits for its first code."""

STATUS = object_of(
    two_factor=object_of(
        enabled=boolean(example=True),
        since=nullable(TIME),
        recovery_codes_left=integer(example=recovery_codes.COUNT, lowest=0),
    )
)
ENROLMENT = object_of(
    secret=string(example="JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"),
    uri=string(example="otpauth://totp/accounts.example.org:jake%40jake.jake?secret=JBSWY3DPEHPK"),
    qr_code=string(example="<svg ...>"),
)
RECOVERY_CODES = object_of(recovery_codes=array_of(string(example="7Q3K-2M9X-H4TB-W8RC-5VND-1FJG")))
END_OTHER_SESSIONS: dict[Any, Any] = {
    vol.Optional("end_other_sessions", default=False): fields.flag
}


@routes.get(
    "/api/user/two-factor", operation_id="GetTwoFactor", setup=True, responses={200: STATUS}
)
async def status(request: web.Request) -> web.StreamResponse:
    """Get the state of the second factor."""
    row = await sql.enrolment.find_status(request.app[DATABASE], user_id=request["user"].id)
    since = row["two_factor_since"]
    return json_response(
        {
            "two_factor": {
                "enabled": since is not None,
                "since": timestamp(since) if since is not None else None,
                "recovery_codes_left": row["recovery_codes_left"],
            }
        }
    )


@routes.post(
    "/api/user/two-factor",
    operation_id="CreateTwoFactor",
    fresh=True,
    setup=True,
    body=vol.Schema({"password": fields.given_password}, extra=vol.REMOVE_EXTRA),
    responses={200: ENROLMENT},
    errors=(
        wrong_credentials(),
        ReauthenticationRequired("password"),
        EmailNotVerified(),
        TooManyAttempts("credentials", retry_after=60),
        two_factor_unavailable(),
    ),
)
async def begin(request: web.Request) -> web.StreamResponse:
    """Create the secret of a second factor, which must be confirmed.

    Respond 200 with the secret, its URI and its QR code for an authenticator app. Nothing changes
    before the secret is confirmed with a code. The request must contain the password, if the
    account has one. Respond 403 if the email of the account is not verified.
    """
    given = await read_body(request)
    client, user, app = client_of(request), request["user"], request.app
    row = await app[CREDENTIAL_VERIFIER].verify_password_if_set(
        client, user.id, given.get("password"), user.session_id
    )
    if row["email_verified_at"] is None:
        raise EmailNotVerified
    secret = totp.new_secret()
    try:
        encrypted = totp.encrypt(app[ENCRYPTION], secret, user.id)
    except NoEncryptionKey:
        raise two_factor_unavailable() from None

    async def store(connection: sql.Connection) -> None:
        await _lock(connection, user, row["password_version"])
        await sql.enrolment.begin(connection, user_id=user.id, secret=encrypted)

    await app[DATABASE].transact(store)
    uri = totp.provisioning_uri(secret, row["email"], app[SETTINGS].site)
    return json_response({"secret": secret, "uri": uri, "qr_code": totp.qr_code(uri)})


@routes.post(
    "/api/user/two-factor/confirm",
    operation_id="ConfirmTwoFactor",
    setup=True,
    body=vol.Schema({required("code"): ANY_CODE, **END_OTHER_SESSIONS}, extra=vol.REMOVE_EXTRA),
    responses={200: RECOVERY_CODES},
    errors=(
        wrong_code(),
        EmailNotVerified(),
        NotFound("two_factor"),
        TooManyAttempts("credentials", retry_after=60),
        two_factor_unavailable(),
    ),
)
async def confirm(request: web.Request) -> web.StreamResponse:
    """Confirm the secret of a second factor with a code, which turns it on.

    Respond 200 with ten recovery codes. They are shown only once, and the earlier ones are of no
    use. Turning the second factor on ends all other sessions. If it was on, its secret is replaced,
    and ``end_other_sessions`` decides about them. Respond 404 if no secret waits for a
    confirmation: it waits for an hour. Wrong codes count like wrong passwords: respond 429 after
    too many of them. Respond 403 if the email of the account is not verified.
    """
    given = await read_body(request)
    client, user, app = client_of(request), request["user"], request.app
    pending = await sql.enrolment.find_pending(app[DATABASE], user_id=user.id, ttl=PENDING_TTL)
    if pending is None:
        raise NotFound("two_factor")
    try:
        secret = totp.decrypt(app[ENCRYPTION], pending["secret"], user.id)
    except DecryptionError:
        raise two_factor_unavailable() from None
    step = totp.matching_step(secret, given["code"])

    async def matches() -> bool:
        return step is not None

    # Count wrong codes: a stolen access token must not confirm a secret that the owner has left
    # unconfirmed, and get the recovery codes.
    await app[CREDENTIAL_VERIFIER].verify_second_factor(client, user.id, matches, user.session_id)

    async def turn_on(connection: sql.Connection) -> list[str]:
        await _lock(connection, user)
        # It may have been changed since the first step.
        current = await sql.email_verification.find(connection, user_id=user.id)
        if current is None or not current["is_verified"]:
            raise EmailNotVerified
        await sql.enrolment.delete_confirmed(connection, user_id=user.id)
        row = await sql.enrolment.confirm(connection, id=pending["id"], user_id=user.id, step=step)
        if row is None:
            raise NotFound("two_factor")
        await sql.enrolment.add_to_proof(connection, session_id=user.session_id)
        # A thief who knows the password may have logged in. The limits must apply to their guesses.
        await known_ips.replace_all(connection, user.id, client.ip_key)
        codes = await recovery_codes.replace_all(connection, user.id)
        await _apply_side_effects(
            app,
            connection,
            client,
            user,
            EventKind.TWO_FACTOR_ENABLED,
            "two_factor_on",
            end_others=given["end_other_sessions"] or not row["was_on"],
        )
        return codes

    return json_response({"recovery_codes": await app[DATABASE].transact(turn_on)})


@routes.delete(
    "/api/user/two-factor",
    operation_id="DeleteTwoFactor",
    fresh=True,
    body=vol.Schema(
        {
            "password": fields.given_password,
            required("code"): ANY_CODE,
            **END_OTHER_SESSIONS,
        },
        extra=vol.REMOVE_EXTRA,
    ),
    responses={204: None},
    errors=(
        wrong_credentials(),
        wrong_code(),
        ReauthenticationRequired("password", "code"),
        NotFound("two_factor"),
        TooManyAttempts("credentials", retry_after=60),
        two_factor_unavailable(),
    ),
)
async def turn_off(request: web.Request) -> web.StreamResponse:
    """Delete the second factor.

    The request must contain a code, and the password if the account has one. ``code`` may be a
    recovery code. Respond 404 if the second factor is off.
    """
    given = await read_body(request)
    client, user, app = client_of(request), request["user"], request.app
    if not user.two_factor:
        raise NotFound("two_factor")
    await app[CREDENTIAL_VERIFIER].verify_password_if_set(
        client, user.id, given.get("password"), user.session_id
    )
    row = await app[SECOND_FACTOR].verify_code(client, user.id, given["code"], user.session_id)

    async def remove(connection: sql.Connection) -> None:
        await _lock(connection, user, row["password_version"])
        if not await remove_second_factor(connection, client, user.id):
            raise NotFound("two_factor")
        await _apply_side_effects(
            app,
            connection,
            client,
            user,
            None,
            "two_factor_off",
            end_others=given["end_other_sessions"],
        )

    await app[DATABASE].transact(remove)
    return web.Response(status=204)


@routes.post(
    "/api/user/two-factor/recovery-codes",
    operation_id="ReplaceRecoveryCodes",
    fresh=True,
    body=vol.Schema(END_OTHER_SESSIONS, extra=vol.REMOVE_EXTRA),
    responses={200: RECOVERY_CODES},
    errors=(ReauthenticationRequired("password", "code"), NotFound("two_factor")),
)
async def replace_codes(request: web.Request) -> web.StreamResponse:
    """Replace the recovery codes.

    Respond 200 with ten new ones. They are shown only once, and the earlier ones are of no use.
    Respond 404 if the second factor is off.
    """
    given = await read_body(request)
    client, user, app = client_of(request), request["user"], request.app

    async def replace(connection: sql.Connection) -> list[str]:
        await _lock(connection, user)
        if await sql.second_factor.find_secret(connection, user_id=user.id) is None:
            raise NotFound("two_factor")
        codes = await recovery_codes.replace_all(connection, user.id)
        await _apply_side_effects(
            app,
            connection,
            client,
            user,
            EventKind.RECOVERY_CODES_REPLACED,
            "recovery_codes_replaced",
            end_others=given["end_other_sessions"],
        )
        return codes

    return json_response({"recovery_codes": await app[DATABASE].transact(replace)})


async def _lock(connection: sql.Connection, user: User, version: int | None = None) -> None:
    """Lock the user's row. Check that the session is active and the credentials are unchanged."""
    current = await sql.sessions.lock_user(connection, user_id=user.id)
    await require_active_session(connection, user)
    if version is not None and current != version:
        raise wrong_credentials()


async def _apply_side_effects(
    app: web.Application,
    connection: sql.Connection,
    client: Client,
    user: User,
    kind: EventKind | None,
    notice: str,
    *,
    end_others: bool,
) -> None:
    """Log a change of the second factor, end what it concerns, and tell the owner by mail."""
    if kind is not None:
        await write_event(connection, client, kind, user_id=user.id, session_id=user.session_id)
    await one_time_tokens.revoke(connection, user.id, {Purpose.TWO_FACTOR})
    if end_others:
        await end_other_sessions(connection, client, user, EventKind.SESSION_ENDED)
    await queue_factor_notice(
        connection, client, notice, user.id, throttle=app[THROTTLE], settings=app[SETTINGS]
    )
