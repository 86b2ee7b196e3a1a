"""Accounts in the HTTP API of administrators.

The functions are those of ``run.py users``. The security log of the account has each act, with the
name of the key. No response has a secret or a digest, and no administrator chooses a password.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import voluptuous as vol
from aiohttp import web

from service.accounts import fields
from service.accounts.account_lock import AccountLocked
from service.accounts.administration import roles, user_actions
from service.accounts.administration.api_keys import Scope
from service.accounts.administration.user_details import describe_account, find_users
from service.accounts.administration.user_list import UserFilter, list_users
from service.accounts.administration.user_schemas import (
    CURSOR,
    EMAIL,
    ID,
    ROLES,
    USER,
    USER_SUMMARY,
)
from service.accounts.closed_accounts import CLOSED_ACCOUNTS
from service.accounts.throttling.throttle import THROTTLE
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import Client, administrator_of
from service.http.errors import InvalidInput, NotFound, TooManyAttempts
from service.http.openapi.schemas import array_of, boolean, nullable, object_of
from service.http.parameters import Number, QueryString, filter_text, flag, path_uuid
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.http.validation import required
from sql import Connection

routes = RouteTableDef(tag="Administration")

_Result = TypeVar("_Result")

NOT_FOUND = NotFound("user")
LIST = QueryString(
    name=(filter_text, None),
    text=(filter_text, None),
    locked=(flag, None),
    verified=(flag, None),
    limit=(Number(1, 100), 20),
    after=(filter_text, None),
)
RESET = QueryString(revoke_password=(flag, False))
VERIFICATION = vol.Schema({required("email"): fields.email}, extra=vol.REMOVE_EXTRA)
CHANGED = object_of(changed=boolean(example=True))


@routes.get(
    "/api/admin/users",
    operation_id="ListUsers",
    auth=Auth.KEY,
    scope=Scope.USERS_READ,
    query=LIST,
    responses={200: object_of(users=array_of(USER_SUMMARY), next_after=nullable(CURSOR))},
)
async def list_all(request: web.Request) -> web.StreamResponse:
    """List the accounts, newest first.

    ``name`` finds the accounts with this email, username or id: at most three. ``text`` selects
    accounts by a part of the username or of the email. A page examines a bounded number of accounts
    and may have fewer than ``limit``. To get the next page, pass ``next_after`` of the response as
    ``after``. It is null on the last page.
    """
    query = LIST.read(request)
    database = request.app[DATABASE]
    if query["name"] is not None:
        found = await find_users(database, query["name"])
        return json_response({"users": found, "next_after": None})
    which = UserFilter(query["text"], query["locked"], query["verified"])
    try:
        page = await list_users(database, which, limit=query["limit"], after=query["after"])
    except ValueError as error:
        raise InvalidInput({"after": [str(error)]}) from None
    return json_response({"users": page.users, "next_after": page.next_after})


@routes.get(
    "/api/admin/users/{id}",
    operation_id="GetUser",
    auth=Auth.KEY,
    scope=Scope.USERS_READ,
    parameters={"id": ID},
    responses={200: object_of(user=USER)},
    errors=(NOT_FOUND,),
)
async def show(request: web.Request) -> web.StreamResponse:
    """Get an account with its ways to sign in and its open sessions."""
    user = await describe_account(
        request.app[DATABASE], path_uuid(request, "id", "user"), request.app[SETTINGS]
    )
    if user is None:
        raise NotFound("user")
    return json_response({"user": user})


@routes.delete(
    "/api/admin/users/{id}",
    operation_id="DeleteUser",
    auth=Auth.KEY,
    scope=Scope.USERS_WRITE,
    parameters={"id": ID},
    responses={204: None},
    errors=(NOT_FOUND,),
)
async def delete(request: web.Request) -> web.StreamResponse:
    """Delete an account with all of its content. This cannot be undone."""
    await _act(request, user_actions.delete_account)
    request.app[CLOSED_ACCOUNTS].wake()
    return web.Response(status=204)


@routes.post(
    "/api/admin/users/{id}/lock",
    operation_id="LockUser",
    auth=Auth.KEY,
    scope=Scope.USERS_WRITE,
    parameters={"id": ID},
    responses={200: CHANGED},
    errors=(NOT_FOUND,),
)
async def lock(request: web.Request) -> web.StreamResponse:
    """Lock an account.

    All of its sessions end, and every login is refused. ``changed`` is false if it was locked.
    """
    return json_response({"changed": await _act(request, user_actions.lock)})


@routes.post(
    "/api/admin/users/{id}/unlock",
    operation_id="UnlockUser",
    auth=Auth.KEY,
    scope=Scope.USERS_WRITE,
    parameters={"id": ID},
    responses={200: CHANGED},
    errors=(NOT_FOUND,),
)
async def unlock(request: web.Request) -> web.StreamResponse:
    """Unlock an account.

    The sessions that the lock has ended stay ended. ``changed`` is false if it was not locked.
    """
    return json_response({"changed": await _act(request, user_actions.unlock)})


@routes.post(
    "/api/admin/users/{id}/verify-email",
    operation_id="VerifyUserEmail",
    auth=Auth.KEY,
    scope=Scope.USERS_WRITE,
    parameters={"id": ID},
    body=VERIFICATION,
    responses={200: CHANGED},
    errors=(NOT_FOUND, NotFound("email")),
)
async def verify(request: web.Request) -> web.StreamResponse:
    """Verify the email of an account.

    ``email`` is the email that the administrator has checked. Respond 404 if the account has
    another one by now. ``changed`` is false if it was verified.
    """
    email = (await read_body(request))["email"]
    return json_response({"changed": await _act(request, user_actions.verify_email, email)})


@routes.post(
    "/api/admin/users/{id}/reset-password",
    operation_id="SendUserPasswordResetEmail",
    auth=Auth.KEY,
    scope=Scope.USERS_WRITE,
    parameters={"id": ID},
    query=RESET,
    responses={200: object_of(email=EMAIL)},
    errors=(NOT_FOUND, AccountLocked(), TooManyAttempts("email", retry_after=60)),
)
async def reset(request: web.Request) -> web.StreamResponse:
    """Send a mail with a link that resets the password to the owner of an account.

    Only the owner chooses the new password. The old one and the sessions stay until the owner uses
    the link, or end at once with ``revoke_password``. Respond with the email. Respond 429 after ten
    mails to one account in an hour.
    """
    revoke_password = RESET.read(request)["revoke_password"]
    throttle, settings = request.app[THROTTLE], request.app[SETTINGS]

    async def start(connection: Connection, client: Client, user_id: UUID) -> str:
        email = await user_actions.start_reset(
            connection, client, user_id, settings, revoke_password=revoke_password
        )
        await throttle.admit_started_reset(connection, user_id)
        return email

    return json_response({"email": await _act(request, start)})


@routes.delete(
    "/api/admin/users/{id}/two-factor",
    operation_id="DeleteUserTwoFactor",
    auth=Auth.KEY,
    scope=Scope.USERS_WRITE,
    parameters={"id": ID},
    responses={200: CHANGED},
    errors=(NOT_FOUND,),
)
async def disable_two_factor(request: web.Request) -> web.StreamResponse:
    """Delete the second factor of an account, and tell the owner by mail.

    ``changed`` is false if it was off.
    """

    async def disable(connection: Connection, client: Client, user_id: UUID) -> bool:
        return await user_actions.disable_two_factor(
            connection,
            client,
            user_id,
            throttle=request.app[THROTTLE],
            settings=request.app[SETTINGS],
        )

    return json_response({"changed": await _act(request, disable)})


@routes.put(
    "/api/admin/users/{id}/roles",
    operation_id="ReplaceUserRoles",
    auth=Auth.KEY,
    scope=Scope.USERS_WRITE,
    parameters={"id": ID},
    body=vol.Schema({required("roles"): roles.roles}, extra=vol.REMOVE_EXTRA),
    responses={200: object_of(roles=ROLES)},
    errors=(NOT_FOUND,),
)
async def replace_roles(request: web.Request) -> web.StreamResponse:
    """Replace the roles of a user. The next request of the user has the new ones."""
    wanted = (await read_body(request))["roles"]
    try:
        return json_response({"roles": await _act(request, roles.set_roles, wanted)})
    except roles.UnknownUser:
        raise NotFound("user") from None


async def _act(
    request: web.Request, act: Callable[..., Awaitable[_Result]], *arguments: Any
) -> _Result:
    """Run ``act`` on the account in the path, as the administrator, in one transaction."""
    client, user_id = administrator_of(request), path_uuid(request, "id", "user")

    async def work(connection: Connection) -> _Result:
        return await act(connection, client, user_id, *arguments)

    return await request.app[DATABASE].transact(work)
