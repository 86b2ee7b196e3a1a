"""Sessions of any account in the HTTP API of administrators."""

from typing import Any

import voluptuous as vol
from aiohttp import web

import sql
from service.accounts.administration.api_keys import Scope
from service.accounts.administration.sign_out import SessionsLocked, sign_out_everybody
from service.accounts.administration.user_actions import end_session, sign_out_user
from service.accounts.administration.user_details import list_sessions
from service.accounts.administration.user_schemas import ID, SESSION, SESSION_ID
from service.database.pool import DATABASE
from service.http.bodies import read_body
from service.http.client import administrator_of
from service.http.error_codes import ErrorCode
from service.http.errors import NotFound, Unavailable
from service.http.openapi.schemas import array_of, integer, json_schema, object_of
from service.http.parameters import path_uuid
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.http.validation import required

routes = RouteTableDef(tag="Administration")

ENDED = object_of(ended_sessions=integer(example=2, lowest=0))


@json_schema({"type": "boolean", "const": True, "examples": [True]})
def confirmed(value: Any) -> bool:
    """Return ``True``. Raise ``vol.Invalid`` for any other value."""
    if value is not True:
        raise vol.Invalid("must be true")
    return True


@routes.get(
    "/api/admin/users/{id}/sessions",
    operation_id="ListUserSessions",
    auth=Auth.KEY,
    scope=Scope.USERS_READ,
    parameters={"id": ID},
    responses={200: object_of(sessions=array_of(SESSION))},
    errors=(NotFound("user"),),
)
async def list_all(request: web.Request) -> web.StreamResponse:
    """List the open sessions of an account, at most 100.

    The session that was used last is the first.
    """
    database, user_id = request.app[DATABASE], path_uuid(request, "id", "user")
    if not await sql.session_routes.has_account(database, user_id=user_id):
        raise NotFound("user")
    return json_response({"sessions": await list_sessions(database, user_id)})


@routes.delete(
    "/api/admin/users/{id}/sessions/{session_id}",
    operation_id="RevokeUserSession",
    auth=Auth.KEY,
    scope=Scope.USERS_WRITE,
    parameters={"id": ID, "session_id": SESSION_ID},
    responses={204: None},
    errors=(NotFound("user"), NotFound("session")),
)
async def end(request: web.Request) -> web.StreamResponse:
    """Revoke an open session of an account. Respond 404 for any other id."""
    client, user_id = administrator_of(request), path_uuid(request, "id", "user")
    session_id = path_uuid(request, "session_id", "session")

    async def work(connection: sql.Connection) -> bool:
        return await end_session(connection, client, user_id, session_id)

    if not await request.app[DATABASE].transact(work):
        raise NotFound("session")
    return web.Response(status=204)


@routes.post(
    "/api/admin/users/{id}/sign-out",
    operation_id="RevokeUserSessions",
    auth=Auth.KEY,
    scope=Scope.USERS_WRITE,
    parameters={"id": ID},
    responses={200: ENDED},
    errors=(NotFound("user"),),
)
async def sign_out(request: web.Request) -> web.StreamResponse:
    """Revoke all sessions of an account.

    Logins that wait for a second factor end too. The person can log in again at once.
    """
    client, user_id = administrator_of(request), path_uuid(request, "id", "user")

    async def work(connection: sql.Connection) -> int:
        return await sign_out_user(connection, client, user_id)

    return json_response({"ended_sessions": await request.app[DATABASE].transact(work)})


@routes.post(
    "/api/admin/sign-out",
    operation_id="RevokeAllSessions",
    auth=Auth.KEY,
    scope=Scope.USERS_WRITE,
    body=vol.Schema({required("all_users"): confirmed}, extra=vol.REMOVE_EXTRA),
    responses={200: ENDED},
)
async def sign_out_all(request: web.Request) -> web.StreamResponse:
    """Revoke all sessions of all accounts.

    ``all_users`` must be true. A million sessions take minutes, and the response comes at the end.
    If it does not arrive, send the request again: it ends the rest, and the sessions that began
    since.
    """
    await read_body(request)
    client = administrator_of(request)
    try:
        count = await sign_out_everybody(request.app[DATABASE], client, lambda *_: None)
    except SessionsLocked:
        raise Unavailable(
            "sessions",
            "are locked by another program",
            code=ErrorCode.DATABASE_UNAVAILABLE,
            retry_after=30,
        ) from None
    return json_response({"ended_sessions": count})
