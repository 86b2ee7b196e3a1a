"""Export everything that is stored about any account, for an administrator with an API key."""

from functools import partial

from aiohttp import hdrs, web

from service.accounts.administration.api_keys import Scope
from service.accounts.administration.user_actions import log_export
from service.accounts.administration.user_schemas import ID
from service.conduit.export import DOCUMENT, export_document
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import DATABASE
from service.http.auth import reauthenticate
from service.http.client import administrator_of
from service.http.errors import NotFound
from service.http.parameters import path_uuid
from service.http.routes import Auth, RouteTableDef
from service.http.streamed_json import StreamedJson

routes = RouteTableDef(tag="Administration")


@routes.get(
    "/api/admin/users/{id}/export",
    operation_id="GetUserExport",
    auth=Auth.KEY,
    scope=Scope.USERS_READ,
    parameters={"id": ID},
    responses={200: DOCUMENT},
    errors=(NotFound("user"),),
)
async def export(request: web.Request) -> web.StreamResponse:
    """Get everything that is stored about an account, as its user can.

    The security log of the account says that an administrator did this.
    """
    database, user_id = request.app[DATABASE], path_uuid(request, "id", "user")
    # The key may be revoked while the document is sent.
    document = await export_document(database, user_id, partial(reauthenticate, request))
    if document is None:
        raise NotFound("user")
    await log_export(database, administrator_of(request), user_id)
    return StreamedJson(
        document,
        {str(hdrs.CONTENT_DISPOSITION): 'attachment; filename="account.json"'},
        expected=(DatabaseUnavailable,),
    )
