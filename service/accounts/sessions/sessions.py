"""Sessions: one for each signed-in device, with a limit per user, and their end.

OWASP Session Management Cheat Sheet: a session has an absolute expiry, and its owner can see and
end it from any device. The process that ended a session rejects its tokens from the next request
on. The other processes reject them within milliseconds, and never later than
``USER_CACHE_STALENESS``.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiohttp import web

import sql
from service.accounts.account_lock import require_unlocked
from service.accounts.one_time_tokens import Purpose, revoke
from service.accounts.security_log import EventKind
from service.accounts.sessions.authentication import revoked_token
from service.accounts.sessions.authentication_methods import Method
from service.accounts.sessions.device_names import device_names
from service.accounts.sessions.opaque_tokens import new_token
from service.accounts.user import SessionUse, User
from service.database.pool import DATABASE, Database
from service.http.client import Client, client_of
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError, NotFound
from service.http.openapi.schemas import (
    TIME,
    Named,
    array_of,
    boolean,
    integer,
    nullable,
    object_of,
    string,
)
from service.http.parameters import path_uuid
from service.http.responses import json_response, timestamp
from service.http.routes import RouteTableDef
from service.settings.settings import Settings

routes = RouteTableDef(tag="Sessions")

TOUCH_INTERVAL = 3600  # Minimum seconds between two updates of a session by its access tokens.

ID = string(example="0b7a1f52-6a5e-4f0e-9d3a-5f2f0b9a3c11", form="uuid")
REFRESH_TOKEN = string(example="kF7n0m9u1uY7b0uXKk9o0l1VwJm0b6vG5q2cQw8tZrE")
EXPIRES_IN = integer(example=86_400, lowest=0)
SESSION = Named(
    "Session",
    object_of(
        id=ID,
        created_at=TIME,
        last_used_at=TIME,
        ip=nullable(string(example="192.0.2.7")),
        user_agent=nullable(
            string(example="Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0")
        ),
        device_name=nullable(string(example="Firefox on Linux")),
        current=boolean(example=True),
    ),
)


class PasswordChanged(Exception):
    """The verified password is no longer the user's. The transaction is rolled back."""


class SessionLimitReached(ApiError):
    """403: the user has reached the limit of open sessions, and the policy evicts none."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.SESSION_LIMIT_REACHED, {"session": ["limit reached"]})


@dataclass(frozen=True, slots=True)
class NewSession:
    """A newly opened session, with the plain refresh token for its device."""

    id: UUID
    expires_at: float
    """The expiry unless the session is refreshed, in seconds since 1970."""
    refresh_token: str
    is_known: bool
    """Whether the user logged in with this device and from this IP address before."""
    roles: tuple[str, ...]
    """The roles of the user."""


async def open_session(
    connection: sql.Connection,
    client: Client,
    settings: Settings,
    *,
    user_id: UUID,
    password_version: int,
    methods: Collection[Method],
    kind: EventKind,
) -> NewSession:
    """Open a session for ``client`` in the transaction of ``connection``.

    Log it as an event of ``kind``. ``password_version`` is the version of the verified password,
    and ``methods`` are the methods of the proof. Raise ``PasswordChanged`` when the user has
    another version by now, ``AccountLocked`` when the account is locked by now, and
    ``SessionLimitReached`` under the policy ``deny``.
    """
    if settings.session_limit:
        await _enforce_session_limit(connection, client, settings, user_id, password_version)
    _, session = await _open(
        connection,
        client,
        settings,
        user_id=user_id,
        password_version=password_version,
        methods=methods,
        kind=kind,
    )
    if session is None:
        await require_unlocked(connection, user_id, password_version)
        raise PasswordChanged
    return session


async def open_session_of_known_login(
    database: Database,
    client: Client,
    settings: Settings,
    *,
    user_id: UUID,
    password_version: int,
    methods: Collection[Method],
    success: Mapping[str, Any],
) -> tuple[bool, NewSession | None]:
    """Record the success of a login and open a session like ``open_session``, in one statement.

    ``success`` is that of the attempt. Return whether the success counts, and the session. It is
    ``None``, and no session is opened, when ``open_session`` would raise an error, or when the user
    did not log in with this device and from this IP address before. There must be no limit of
    sessions.
    """
    return await _open(
        database,
        client,
        settings,
        user_id=user_id,
        password_version=password_version,
        methods=methods,
        kind=EventKind.SIGNED_IN,
        success=success,
        known_only=True,
    )


NO_ATTEMPT = dict.fromkeys(("keys", "windows", "pair_key", "known_ttl", "max_failures"))
"""The arguments of a statement that records the success of no login attempt."""


async def _open(
    db: Database | sql.Connection,
    client: Client,
    settings: Settings,
    *,
    user_id: UUID,
    password_version: int,
    methods: Collection[Method],
    kind: EventKind,
    success: Mapping[str, Any] = NO_ATTEMPT,
    known_only: bool = False,
) -> tuple[bool, NewSession | None]:
    token = new_token()
    row = await sql.sessions.open(
        db,
        user_id=user_id,
        password_version=password_version,
        ttl=settings.session_ttl,
        digest=token.digest,
        refresh_token_ttl=settings.refresh_token_ttl,
        kind=kind,
        ip=client.ip,
        user_agent=client.user_agent,
        ip_key=client.ip_key,
        amr=list(methods),
        # A provider may not have verified the person for this login.
        is_fresh=Method.FEDERATED not in methods,
        known_only=known_only,
        **success,
    )
    if row["id"] is None:
        return row["counts"], None
    expires_at = row["expires_at"].timestamp()
    roles = tuple(row["roles"])
    return True, NewSession(row["id"], expires_at, token.plain, row["is_known"], roles)


async def _enforce_session_limit(
    connection: sql.Connection,
    client: Client,
    settings: Settings,
    user_id: UUID,
    password_version: int,
) -> None:
    """Ensure that one more session is within the limit, also for simultaneous logins."""
    # Check the password first: a login with an old password must not evict a session, and must not
    # reveal that the limit is reached.
    if await sql.sessions.lock_user(connection, user_id=user_id) != password_version:
        raise PasswordChanged
    if settings.session_limit_policy == "deny":
        count = await sql.sessions.count_open(connection, user_id=user_id)
        if count >= settings.session_limit:
            raise SessionLimitReached
    else:
        await sql.sessions.evict_oldest(
            connection,
            user_id=user_id,
            keep=settings.session_limit - 1,
            ip=client.ip,
            user_agent=client.user_agent,
        )


async def require_active_session(connection: sql.Connection, user: User) -> None:
    """Check that the session of ``user`` is still active. The transaction has locked the user.

    When two requests end each other's session simultaneously, the second one must fail. Raise
    ``Unauthorized``.
    """
    session = await sql.sessions.find_state(connection, id=user.session_id)
    if session is None or session["end_reason"] is not None or session["expired"]:
        raise revoked_token(session["end_reason"] if session is not None else None)


async def end_other_sessions(
    connection: sql.Connection, client: Client, user: User, reason: EventKind
) -> None:
    """End every session of ``user`` but this one. The transaction has locked the user."""
    await sql.sessions.end_others(
        connection,
        user_id=user.id,
        except_id=user.session_id,
        reason=reason,
        ip=client.ip,
        user_agent=client.user_agent,
    )


def may_touch(user: User) -> bool:
    """Return whether ``touch`` can have anything to record for the session of ``user``."""
    return time.time() >= user.session_use.touched_at + TOUCH_INTERVAL


async def touch(database: Database, client: Client, user: User) -> None:
    """Record that ``client`` gets a new access token in the session of ``user``.

    Without this a session that only renews its access token would seem unused to its owner. A new
    IP address or user agent is recorded immediately, any other use an hour after the last one.
    A session is updated at most once an hour: most requests only compare and run no SQL.
    """
    if not may_touch(user):
        return
    use = user.session_use
    is_recent = time.time() < use.last_used_at + TOUCH_INTERVAL
    if is_recent and (client.ip, client.user_agent) == (use.ip, use.user_agent):
        return
    row = await sql.sessions.touch(
        database,
        id=user.session_id,
        interval=TOUCH_INTERVAL,
        ip=client.ip,
        user_agent=client.user_agent,
    )
    if row is not None:
        latest = SessionUse.of(row)
        use.last_used_at, use.touched_at = latest.last_used_at, latest.touched_at
        use.ip, use.user_agent = latest.ip, latest.user_agent


@routes.post("/api/auth/logout", operation_id="Logout", setup=True, responses={204: None})
async def logout(request: web.Request) -> web.StreamResponse:
    """Log out. The session of the access token ends."""
    client, user = client_of(request), request["user"]
    await sql.sessions.end_one(
        request.app[DATABASE],
        id=user.session_id,
        user_id=user.id,
        kind=EventKind.SIGNED_OUT,
        ip=client.ip,
        user_agent=client.user_agent,
        actor=client.actor,
    )
    return web.Response(status=204)


@routes.get(
    "/api/user/sessions",
    operation_id="ListSessions",
    responses={200: object_of(sessions=array_of(SESSION))},
)
async def list_sessions(request: web.Request) -> web.StreamResponse:
    """List the open sessions of the current user, newest first. The list has at most 1,000."""
    user: User = request["user"]
    rows = await sql.sessions.list_open(
        request.app[DATABASE], user_id=user.id, current_id=user.session_id
    )
    names = await device_names([row["user_agent"] for row in rows])
    sessions = [_session(row, name, user) for row, name in zip(rows, names, strict=True)]
    return json_response({"sessions": sessions})


@routes.delete(
    "/api/user/sessions/{id}",
    operation_id="RevokeSession",
    parameters={"id": ID},
    responses={204: None},
    errors=(NotFound("session"),),
)
async def end(request: web.Request) -> web.StreamResponse:
    """Revoke an open session of the current user. Respond 404 for any other id."""
    client = client_of(request)
    ended = await sql.sessions.end_one(
        request.app[DATABASE],
        id=path_uuid(request, "id", "session"),
        user_id=request["user"].id,
        kind=EventKind.SESSION_ENDED,
        ip=client.ip,
        user_agent=client.user_agent,
        actor=client.actor,
    )
    if ended is None:
        raise NotFound("session")
    return web.Response(status=204)


@routes.delete("/api/user/sessions", operation_id="RevokeOtherSessions", responses={204: None})
async def end_others(request: web.Request) -> web.StreamResponse:
    """Revoke all other sessions of the current user.

    Logins that wait for a second factor end too. When devices end each other's sessions
    simultaneously, only the first device keeps its session.
    """
    client, user = client_of(request), request["user"]

    async def end_unless_ended(connection: sql.Connection) -> None:
        await sql.sessions.lock_user(connection, user_id=user.id)
        await require_active_session(connection, user)
        await end_other_sessions(connection, client, user, EventKind.SESSION_ENDED)
        await revoke(connection, user.id, {Purpose.TWO_FACTOR})

    await request.app[DATABASE].transact(end_unless_ended)
    return web.Response(status=204)


def _session(row: Any, device_name: str | None, user: User) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "created_at": timestamp(row["created_at"]),
        "last_used_at": timestamp(row["last_used_at"]),
        "ip": row["ip"],
        "user_agent": row["user_agent"],
        "device_name": device_name,
        "current": row["id"] == user.session_id,
    }
