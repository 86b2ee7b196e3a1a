"""Read, change and delete the account of the current user."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

import sql
from service.accounts import fields
from service.accounts.closed_accounts import CLOSED_ACCOUNTS, close_account
from service.accounts.email_change import apply_email_update
from service.accounts.notices import queue_notice
from service.accounts.one_time_tokens import REVOKED_BY_PASSWORD_CHANGE, revoke
from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.passwords.policy import PASSWORD_POLICY
from service.accounts.passwords.verification import (
    CREDENTIAL_VERIFIER,
    requester_of,
    wrong_credentials,
)
from service.accounts.responses import CURRENT_USER, current_user_response
from service.accounts.security_log import EventKind, write_event
from service.accounts.sessions.authentication import TOKENS
from service.accounts.sessions.reauthentication import ReauthenticationRequired
from service.accounts.sessions.sessions import (
    end_other_sessions,
    may_touch,
    require_active_session,
    touch,
)
from service.accounts.throttling import known_ips
from service.accounts.throttling.throttle import THROTTLE, Throttle
from service.accounts.uniqueness import check_availability, map_unique_violations
from service.accounts.user import User
from service.database.pool import DATABASE
from service.http.app_keys import REQUIRE_FRESH_PROOF, SETTINGS
from service.http.bodies import read_body
from service.http.client import Client, client_of
from service.http.errors import BLANK, Conflict, InvalidInput, TooManyAttempts
from service.http.openapi.schemas import ByDialect
from service.http.routes import RouteTableDef
from service.http.validation import something_to_change, wrapped
from service.settings.settings import Settings

routes = RouteTableDef(tag="Accounts")


@routes.get("/api/user", operation_id="GetCurrentUser", setup=True, responses={200: CURRENT_USER})
async def current(request: web.Request) -> web.StreamResponse:
    """Get the current user.

    The response contains a new access token.
    """
    user: User = request["user"]
    # The client is needed only once an hour.
    if may_touch(user):
        await touch(request.app[DATABASE], client_of(request), user)
    return current_user_response(user, request.app[TOKENS], request.app[SETTINGS])


UPDATABLE = {
    "email": fields.email,
    "username": fields.username,
    "password": fields.new_password,
    "bio": fields.bio,
}


def _change_beside_the_password(given: dict[str, Any]) -> dict[str, Any]:
    """Require a field beside ``current_password``. Raise ``vol.Invalid``."""
    something_to_change({name: given[name] for name in given if name != "current_password"})
    return given


UPDATE = ByDialect(
    default=wrapped(
        "user",
        {**UPDATABLE, "image": fields.image, "current_password": fields.given_password},
        _change_beside_the_password,
    ),
    strict=wrapped("user", {**UPDATABLE, "image": fields.any_image}, something_to_change),
)


@routes.put(
    "/api/user",
    operation_id="UpdateCurrentUser",
    body=UPDATE,
    responses={200: CURRENT_USER},
    errors=(
        wrong_credentials(),
        ReauthenticationRequired("password"),
        Conflict("email"),
        TooManyAttempts("credentials", retry_after=60),
        TooManyAttempts("registration", retry_after=60),
        TooManyAttempts("password", retry_after=60),
        TooManyAttempts("email", retry_after=60),
    ),
)
async def update(request: web.Request) -> web.StreamResponse:
    """Update the current user.

    Change only the fields in the request. Respond 200 with the user, or 409 when the username or
    the email is taken. Another email takes effect when its owner confirms it: send them a mail with
    a link. Until then the response shows the old email. A request that has only the current email
    cancels the change. With ``REALWORLD_STRICT``, change the email at once: it is not verified, and
    the mail has a link that verifies it.

    A change of the email or the password needs a proof of the person that is at most
    ``REAUTHENTICATION_TTL`` seconds old, or ``current_password`` beside the fields if the account
    has no second factor. Otherwise respond 403. Respond 401 to a wrong ``current_password`` and 429
    after too many of them, as a login does. With ``REALWORLD_STRICT`` no proof is needed.

    Tell the owner about a changed password, username or email by mail.
    """
    user: User = request["user"]
    find_errors = request.app[PASSWORD_POLICY].find_errors(user.username, user.email)
    given = (await read_body(request, find_errors))["user"]
    # A slow body is authenticated again: the email or the proof may have changed.
    user = request["user"]
    client, database, throttle = client_of(request), request.app[DATABASE], request.app[THROTTLE]
    current_password, verified = given.pop("current_password", None), None
    changes_credentials = "password" in given or given.get("email", user.email) != user.email
    if changes_credentials and not request.app[SETTINGS].realworld_strict:
        # One password is no proof where a second factor is on.
        if current_password is None or user.two_factor:
            await request.app[REQUIRE_FRESH_PROOF](user)
        if current_password is not None:
            verified = await request.app[CREDENTIAL_VERIFIER].verify_credentials(
                client, user.id, current_password, user.session_id
            )
    keys = {
        f"{name}_key": key(given[name]) if name in given else None
        for name, key in fields.KEYS.items()
    }
    own = {fields.uniqueness_key(user.username), fields.email_key(user.email)}
    conflict_windows: dict[bytes, datetime] = {}
    # Many front-ends send unchanged values too. Do not count a request that has only those.
    if any(key is not None and key not in own for key in keys.values()):
        await throttle.admit_registration(client)
        # Count the conflict before the check for it, unlike in a registration. A change can be
        # undone without a trace, so past the limit a success would reveal as much as a conflict.
        conflict_windows = await throttle.admit_conflict(client)
    await check_availability(database, keys, except_id=user.id)
    password_hash = None
    if "password" in given:
        await throttle.admit_password_change(user.id)
        requester = requester_of(client, user.id)
        password_hash = await request.app[PASSWORDS].hash(given["password"], requester)

    async def change(connection: sql.Connection) -> Any:
        password_version = await sql.sessions.lock_user(connection, user_id=user.id)
        if verified is not None and password_version != verified["password_version"]:
            raise wrong_credentials()
        at_once = request.app[SETTINGS].realworld_strict
        row = await sql.current_user.update(
            connection,
            id=user.id,
            username=given.get("username"),
            username_key=keys["username_key"],
            email=given.get("email") if at_once else None,
            email_key=keys["email_key"] if at_once else None,
            password_hash=password_hash,
            set_bio="bio" in given,
            bio=given.get("bio"),
            set_image="image" in given,
            image=given.get("image"),
        )
        await _apply_side_effects(
            connection,
            client,
            user,
            row,
            given,
            throttle=throttle,
            settings=request.app[SETTINGS],
        )
        return row

    async with map_unique_violations(database, keys, except_id=user.id):
        row = await database.transact(change)
    await throttle.release_conflict(conflict_windows)
    await touch(database, client, user)
    return current_user_response(user.with_profile(row), request.app[TOKENS], request.app[SETTINGS])


async def _apply_side_effects(
    connection: sql.Connection,
    client: Client,
    user: User,
    row: Any,
    given: Mapping[str, Any],
    *,
    throttle: Throttle,
    settings: Settings,
) -> None:
    """Log the changes. Revoke the links in mails and the other sessions that they concern.

    ``row`` is the user after the change to the fields ``given``. The transaction holds the lock on
    the user's row. When two sessions change the password simultaneously, the first change revokes
    the session of the second, which must fail. Raise ``Unauthorized`` if the session is no longer
    active. The notices go to the email before the change.
    """
    await require_active_session(connection, user)
    if "password" in given:
        await write_event(
            connection,
            client,
            EventKind.PASSWORD_CHANGED,
            user_id=user.id,
            session_id=user.session_id,
        )
        await end_other_sessions(connection, client, user, EventKind.PASSWORD_CHANGED)
        await revoke(connection, user.id, REVOKED_BY_PASSWORD_CHANGE)
        await throttle.allow_reset_request(connection, user.id)
        await known_ips.replace_all(connection, user.id, client.ip_key)
        # The failures were guesses of the old password, and the links that unlock it are revoked.
        await sql.login_unlock.unlock(connection, user_id=user.id)
    changed = {"password_changed": "password" in given, "username_changed": row["username_changed"]}
    for template in (template for template, is_changed in changed.items() if is_changed):
        await queue_notice(
            connection,
            client,
            template,
            user_id=user.id,
            email=row["old_email"],
            email_key=row["old_email_key"],
            throttle=throttle,
            settings=settings,
        )
    await apply_email_update(
        connection, client, user, row, given, throttle=throttle, settings=settings
    )


DELETION = wrapped("user", {"password": fields.given_password})


@routes.delete(
    "/api/user",
    operation_id="DeleteCurrentUser",
    body=DELETION,
    responses={204: None},
    errors=(
        InvalidInput({"password": [BLANK]}),
        wrong_credentials(),
        ReauthenticationRequired(),
        TooManyAttempts("credentials", retry_after=60),
    ),
)
async def delete(request: web.Request) -> web.StreamResponse:
    """Delete the account of the current user.

    The request must contain the password. Respond 204, or 401 or 429 as a login does. An account
    without a password, or with a second factor, needs a proof that is at most
    ``REAUTHENTICATION_TTL`` seconds old, otherwise respond 403. The login, tokens, username and
    profile are deleted immediately. The content of the account is removed within a moment, or
    within minutes if there is very much of it. Until then it is shown without its author.
    """
    given = (await read_body(request))["user"]
    client, user = client_of(request), request["user"]
    # Count failures as in a login: a stolen token must not allow unlimited password guesses.
    row = await request.app[CREDENTIAL_VERIFIER].verify_password_if_set(
        client, user.id, given.get("password"), user.session_id
    )
    if row["password_hash"] is None or user.two_factor:
        await request.app[REQUIRE_FRESH_PROOF](user)

    async def close_unless_changed(connection: sql.Connection) -> None:
        password_version = await sql.closed_accounts.lock(connection, user_id=user.id)
        if password_version != row["password_version"]:
            raise wrong_credentials()
        await require_active_session(connection, user)
        await close_account(connection, user.id)
        await write_event(
            connection,
            client,
            EventKind.ACCOUNT_DELETED,
            user_id=user.id,
            session_id=user.session_id,
        )

    await request.app[DATABASE].transact(close_unless_changed)
    request.app[CLOSED_ACCOUNTS].wake()
    return web.Response(status=204)
