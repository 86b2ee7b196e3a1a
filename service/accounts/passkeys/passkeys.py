"""List, rename and delete the passkeys of the current user."""

from typing import Any

import voluptuous as vol
from aiohttp import web

import sql
from service.accounts import fields
from service.accounts.credential_changes import apply_side_effects, lock_owner
from service.accounts.identity_providers.providers import PROVIDERS
from service.accounts.security_log import EventKind
from service.accounts.sessions.reauthentication import ReauthenticationRequired
from service.accounts.sign_in_methods import LastSignInMethod, require_sign_in_method
from service.accounts.user import User
from service.database.pool import DATABASE
from service.http.bodies import read_body
from service.http.client import client_of
from service.http.errors import NotFound
from service.http.openapi.schemas import TIME, Named, array_of, nullable, object_of, string
from service.http.parameters import QueryString, flag, path_uuid
from service.http.responses import json_response, timestamp
from service.http.routes import RouteTableDef
from service.http.validation import required

routes = RouteTableDef(tag="Passkeys")

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
PATH = "/api/user/passkeys/{id:(?!options$)[^/]+}"
REMOVAL = QueryString(end_other_sessions=(flag, False))


@routes.get(
    "/api/user/passkeys",
    operation_id="ListPasskeys",
    setup=True,
    responses={200: object_of(passkeys=array_of(PASSKEY))},
)
async def list_passkeys(request: web.Request) -> web.StreamResponse:
    """List the passkeys of the current user, oldest first."""
    rows = await sql.passkeys.list(request.app[DATABASE], user_id=request["user"].id)
    return json_response({"passkeys": [passkey_json(row) for row in rows]})


@routes.patch(
    PATH,
    operation_id="UpdatePasskey",
    fresh=True,
    body=vol.Schema({required("name"): fields.passkey_name}, extra=vol.REMOVE_EXTRA),
    parameters={"id": ID},
    responses={200: object_of(passkey=PASSKEY)},
    errors=(ReauthenticationRequired("password"), NotFound("passkey")),
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
    return json_response({"passkey": passkey_json(row)})


@routes.delete(
    PATH,
    operation_id="DeletePasskey",
    fresh=True,
    query=REMOVAL,
    parameters={"id": ID},
    responses={204: None},
    errors=(ReauthenticationRequired("password"), NotFound("passkey"), LastSignInMethod("passkey")),
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
        await lock_owner(connection, user)
        if await sql.passkeys.delete(connection, id=passkey_id, user_id=user.id) is None:
            raise NotFound("passkey")
        await require_sign_in_method(connection, user.id, "passkey", app[PROVIDERS].issuers)
        await sql.passkeys.end_proofs(
            connection, user_id=user.id, except_session_id=user.session_id
        )
        await apply_side_effects(
            app,
            connection,
            client,
            user,
            EventKind.PASSKEY_REMOVED,
            "passkey_removed",
            end_others=ends_sessions,
        )

    await app[DATABASE].transact(delete_unless_last)
    return web.Response(status=204)


def passkey_json(row: Any) -> dict[str, Any]:
    """Return the JSON of a passkey."""
    used = row["last_used_at"]
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "created_at": timestamp(row["created_at"]),
        "last_used_at": timestamp(used) if used is not None else None,
    }
