"""Register and log in users, and manage the account of the current user."""

import contextlib
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
from aiohttp import web

import sql
from service.accounts import fields
from service.accounts.closed_accounts import CLOSED_ACCOUNTS, close_account
from service.accounts.emails import queue_lockout_email
from service.accounts.passwords.hash_queue import Requester
from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.responses import CURRENT_USER, LOGIN_RESPONSE, login_response, user_json
from service.accounts.security_log import write_event
from service.accounts.sessions.sessions import (
    NewSession,
    PasswordChanged,
    SessionLimitReached,
    open_session,
    require_active_session,
    touch,
)
from service.accounts.throttling import known_ips
from service.accounts.throttling.login_attempts import LOGIN_ATTEMPTS, unknown_account_id
from service.accounts.throttling.throttle import THROTTLE
from service.accounts.user import User
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import Client, client_of
from service.http.error_codes import ErrorCode
from service.http.errors import Conflict, Unauthorized, Unavailable
from service.http.openapi.schemas import ByDialect
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.http.validation import required, something_to_change, wrapped

routes = RouteTableDef(tag="Accounts")

UNIQUE = {"users_username_key_key": "username", "users_email_key_key": "email"}

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
    errors=(409, 429),
)
async def register(request: web.Request) -> web.StreamResponse:
    """Register a user.

    Respond 200 (201 with ``REALWORLD_STRICT``) with the user and the tokens of a new session, or
    409 when the username or the email is taken.
    """
    try:
        return await _register(request)
    except Conflict:
        await request.app[THROTTLE].admit_conflict(client_of(request))
        raise


async def _register(request: web.Request) -> web.StreamResponse:
    given = (await read_body(request))["user"]
    await request.app[THROTTLE].admit_registration(client_of(request))
    keys = {f"{name}_key": key(given[name]) for name, key in fields.KEYS.items()}
    await _check_availability(request, keys)
    requester = _requester(client_of(request), unknown_account_id(keys["email_key"]))
    password_hash = await request.app[PASSWORDS].hash(given["password"], requester)

    async def insert_and_sign_in(connection: sql.Connection) -> tuple[Any, NewSession]:
        row = await sql.users.insert(
            connection,
            username=given["username"],
            email=given["email"],
            password_hash=password_hash,
            **keys,
        )
        session = await open_session(
            connection,
            client_of(request),
            request.app[SETTINGS],
            user_id=row["id"],
            password_version=row["password_version"],
            kind="registered",
        )
        return row, session

    try:
        row, session = await request.app[DATABASE].transact(insert_and_sign_in)
    except asyncpg.UniqueViolationError as violation:
        await _check_availability(request, keys)
        raise Conflict(UNIQUE[violation.constraint_name]) from None
    status = 201 if request.app[SETTINGS].realworld_strict else 200
    return login_response(request, row, session, status=status)


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
    errors=(401, 403, 429),
)
async def login(request: web.Request) -> web.StreamResponse:
    """Log in.

    Respond 200 with the user and the tokens of a new session. Respond 401 to wrong credentials and
    429 after too many of them. Each has the same text and takes the same time whether or not the
    account exists. Respond 403 when ``SESSION_LIMIT`` is reached and ``SESSION_LIMIT_POLICY`` is
    ``deny``.
    """
    given = (await read_body(request))["user"]
    email_key = fields.email_key(given["email"])
    user_id = await sql.users.find_id(request.app[DATABASE], email_key=email_key)
    row = await _verify_credentials(
        request, user_id or unknown_account_id(email_key), given["password"]
    )
    database, client = request.app[DATABASE], client_of(request)
    open_one = partial(
        open_session,
        client=client,
        settings=request.app[SETTINGS],
        user_id=row["id"],
        password_version=row["password_version"],
        kind="signed_in",
    )
    try:
        session = await database.transact(open_one)
    except PasswordChanged:
        await write_event(database, client, "sign_in_failed", user_id=row["id"])
        raise _wrong_credentials() from None
    except SessionLimitReached:
        # The client knows the password. The owner must see this in the log, even without a session.
        await write_event(database, client, "sign_in_denied", user_id=row["id"])
        raise
    return login_response(request, row, session)


async def _verify_credentials(
    request: web.Request, account_id: UUID, password: str, session_id: UUID | None = None
) -> Any:
    """Verify ``password`` and return the row of the user ``account_id``.

    Raise ``Unauthorized`` if the user does not exist or the password is wrong, and write the
    failure to the security log. ``session_id`` is the session of the attempt, if it has one. Raise
    ``TooManyAttempts`` after too many failures.
    """
    database, passwords = request.app[DATABASE], request.app[PASSWORDS]
    throttle, client = request.app[THROTTLE], client_of(request)
    async with request.app[LOGIN_ATTEMPTS].admit(account_id, client) as attempt:
        # Read the row after the attempt is admitted: the password may change while it waits.
        row = await sql.users.find_credentials(database, id=account_id)
        old_hash = row["password_hash"] if row is not None else None
        requester = _requester(client, account_id)
        matches = await passwords.verify(password, old_hash, requester, attempt.verify_deadline)
        if not matches or row is None:
            # Write the events for unknown emails too: timing must not reveal which accounts exist.
            where = {"user_id": row["id"] if row is not None else None, "session_id": session_id}

            async def write_events(connection: sql.Connection, is_locked_out: bool) -> None:
                await write_event(connection, client, "sign_in_failed", **where)
                if is_locked_out:
                    await write_event(connection, client, "throttled", **where)
                    await queue_lockout_email(
                        connection,
                        client,
                        account_id,
                        row,
                        throttle=throttle,
                        settings=request.app[SETTINGS],
                    )

            await attempt.record_failure(write_events)
            raise _wrong_credentials()
        await attempt.record_success()
    if passwords.is_outdated(row["password_hash"]):
        await _renew_hash(request, row, password)
    return row


@routes.get("/api/user", operation_id="GetCurrentUser", responses={200: CURRENT_USER})
async def current(request: web.Request) -> web.StreamResponse:
    """Get the current user.

    The response contains a new access token.
    """
    await touch(request.app[DATABASE], client_of(request), request["user"])
    return json_response({"user": user_json(request, request["user"])})


UPDATABLE = {
    "email": fields.email,
    "username": fields.username,
    "password": fields.new_password,
    "bio": fields.bio,
}
UPDATE = ByDialect(
    default=wrapped("user", {**UPDATABLE, "image": fields.image}, something_to_change),
    strict=wrapped("user", {**UPDATABLE, "image": fields.any_image}, something_to_change),
)


@routes.put(
    "/api/user",
    operation_id="UpdateCurrentUser",
    body=UPDATE,
    responses={200: CURRENT_USER},
    errors=(409, 429),
)
async def update(request: web.Request) -> web.StreamResponse:
    """Update the current user.

    Change only the fields in the request. Respond 200 with the user, or 409 when the username or
    the email is taken.
    """
    given = (await read_body(request))["user"]
    user: User = request["user"]
    keys = {
        f"{name}_key": key(given[name]) if name in given else None
        for name, key in fields.KEYS.items()
    }
    own = {fields.uniqueness_key(user.username), fields.email_key(user.email)}
    counted: dict[bytes, datetime] = {}
    # Many front-ends send unchanged values too. Do not count a request that has only those.
    if any(key is not None and key not in own for key in keys.values()):
        await request.app[THROTTLE].admit_registration(client_of(request))
        # Count the conflict before the check for it, unlike in a registration. A change can be
        # undone without a trace, so past the limit a success would reveal as much as a conflict.
        counted = await request.app[THROTTLE].admit_conflict(client_of(request))
    await _check_availability(request, keys, except_id=user.id)
    password_hash = None
    if "password" in given:
        await request.app[THROTTLE].admit_password_change(user.id)
        requester = _requester(client_of(request), user.id)
        password_hash = await request.app[PASSWORDS].hash(given["password"], requester)

    async def change(connection: sql.Connection) -> Any:
        await sql.sessions.lock_user(connection, user_id=user.id)
        row = await sql.users.update(
            connection,
            id=user.id,
            username=given.get("username"),
            email=given.get("email"),
            password_hash=password_hash,
            set_bio="bio" in given,
            bio=given.get("bio"),
            set_image="image" in given,
            image=given.get("image"),
            **keys,
        )
        await _apply_side_effects(
            connection, client_of(request), user, row, password_changed="password" in given
        )
        return row

    try:
        row = await request.app[DATABASE].transact(change)
    except asyncpg.UniqueViolationError as violation:
        await _check_availability(request, keys, except_id=user.id)
        raise Conflict(UNIQUE[violation.constraint_name]) from None
    await request.app[THROTTLE].release_conflict(counted)
    await touch(request.app[DATABASE], client_of(request), request["user"])
    changed = User.of(row, user.session_id, user.session_expires_at, user.session_use)
    return json_response({"user": user_json(request, changed)})


async def _apply_side_effects(
    connection: sql.Connection, client: Client, user: User, row: Any, *, password_changed: bool
) -> None:
    """Log the changes, and revoke the other sessions after a password change.

    The transaction holds the lock on the user's row. When two sessions change the password
    simultaneously, the first change revokes the session of the second, which must fail. Raise
    ``Unauthorized`` if the session is no longer active.
    """
    await require_active_session(connection, user)
    here = {"user_id": user.id, "session_id": user.session_id}
    if row["email_changed"]:
        await write_event(connection, client, "email_changed", **here)
    if password_changed:
        await write_event(connection, client, "password_changed", **here)
        await sql.sessions.end_others(
            connection,
            user_id=user.id,
            except_id=user.session_id,
            reason="password_changed",
            ip=client.ip,
            user_agent=client.user_agent,
        )
        await known_ips.replace_all(connection, user.id, client.ip_key)


DELETION = wrapped("user", {required("password"): fields.given_password})


@routes.delete(
    "/api/user",
    operation_id="DeleteCurrentUser",
    body=DELETION,
    responses={204: None},
    errors=(429,),
)
async def delete(request: web.Request) -> web.StreamResponse:
    """Delete the account of the current user.

    The request must contain the password. Respond 204, or 401 or 429 as a login does. The login,
    tokens, username and profile are deleted immediately. The content of the account is removed
    within a moment, or within minutes if there is very much of it. Until then it is shown without
    its author.
    """
    given, user = (await read_body(request))["user"], request["user"]
    # Count failures as in a login: a stolen token must not allow unlimited password guesses.
    row = await _verify_credentials(request, user.id, given["password"], user.session_id)

    async def close_unless_changed(connection: sql.Connection) -> None:
        password_version = await sql.closed_accounts.lock(connection, user_id=user.id)
        if password_version != row["password_version"]:
            raise _wrong_credentials()
        await require_active_session(connection, user)
        await close_account(connection, user.id)
        await write_event(
            connection,
            client_of(request),
            "account_deleted",
            user_id=user.id,
            session_id=user.session_id,
        )

    await request.app[DATABASE].transact(close_unless_changed)
    request.app[CLOSED_ACCOUNTS].wake()
    return web.Response(status=204)


async def _renew_hash(request: web.Request, row: Any, password: str) -> None:
    """Replace the password hash with one of the current cost."""
    # A full hash queue must not reject the correct password. The next login tries again.
    with contextlib.suppress(Unavailable):
        new_hash = await request.app[PASSWORDS].hash(
            password, _requester(client_of(request), row["id"])
        )
        await sql.users.renew_password_hash(
            request.app[DATABASE], id=row["id"], old_hash=row["password_hash"], new_hash=new_hash
        )


def _requester(client: Client, account_id: UUID) -> Requester:
    return Requester(client.site_key or client.ip_key, account_id)


async def _check_availability(
    request: web.Request, keys: Mapping[str, str | None], except_id: Any = None
) -> None:
    """Raise ``Conflict`` with each field whose key a user other than ``except_id`` has."""
    if not any(keys.values()):
        return
    taken = await sql.users.taken(request.app[DATABASE], except_id=except_id, **keys)
    if fields_taken := [name for name in ("email", "username") if taken[name]]:
        raise Conflict(*fields_taken)


def _wrong_credentials() -> Unauthorized:
    return Unauthorized("credentials", "invalid", code=ErrorCode.INVALID_CREDENTIALS)
