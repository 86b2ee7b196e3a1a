"""Sessions of any account in the HTTP API of administrators."""

from aiohttp import web

import sql
from service.accounts.administration.api_keys import Scope
from service.accounts.administration.user_actions import end_session, sign_out_user
from service.accounts.administration.user_details import list_sessions
from service.accounts.administration.user_schemas import ID, SESSION, SESSION_ID
from service.database.pool import DATABASE
from service.http.client import administrator_of
from service.http.errors import NotFound
from service.http.openapi.schemas import array_of, integer, object_of
from service.http.parameters import path_uuid
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef

routes = RouteTableDef(tag="Administration")


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
    responses={200: object_of(ended_sessions=integer(example=2, lowest=0))},
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
