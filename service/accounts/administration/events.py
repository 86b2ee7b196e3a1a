"""The security log of all accounts, for administrators: newest first, page by page.

It has what an owner does not see: the name and the IP address of the administrator who acted.
"""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

import sql
from service.accounts.administration import user_schemas
from service.accounts.administration.api_keys import Scope
from service.accounts.administration.user_details import event_json
from service.accounts.security_log import EVENT, ID
from service.database.pool import DATABASE
from service.http.errors import NotFound
from service.http.openapi.schemas import Named, array_of, nullable, object_of, string
from service.http.parameters import LARGEST, Number, QueryString, filter_text, path_uuid
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef

routes = RouteTableDef(tag="Administration")

_OWN = {
    name: field for name, field in EVENT.schema["properties"].items() if name != "by_administrator"
}
ADMINISTRATED_EVENT = Named(
    "AdministratedEvent",
    object_of(
        **_OWN,
        user_id=nullable(user_schemas.ID),
        actor=nullable(
            {
                **string(example="backoffice"),
                "description": "The administrator: the name of an API key, or `cli`.",
            }
        ),
    ),
)
EVENTS = object_of(events=array_of(ADMINISTRATED_EVENT), next_before=nullable(ID))

PAGE = QueryString(limit=(Number(1, 100), 20), before=(Number(1, LARGEST), None))
PAGE_OF_ACTOR = QueryString(
    actor=(filter_text, None), limit=(Number(1, 100), 20), before=(Number(1, LARGEST), None)
)


@routes.get(
    "/api/admin/events",
    operation_id="ListAllEvents",
    auth=Auth.KEY,
    scope=Scope.EVENTS_READ,
    query=PAGE_OF_ACTOR,
    responses={200: EVENTS},
)
async def list_all(request: web.Request) -> web.StreamResponse:
    """List the security events of all accounts, newest first.

    ``actor`` selects the acts of one administrator: the name of an API key, or ``cli``. To get
    older events, pass ``next_before`` of the response as ``before``.
    """
    page = PAGE_OF_ACTOR.read(request)
    database, actor = request.app[DATABASE], page["actor"]
    bounds = {"before": page["before"] or LARGEST, "limit": page["limit"] + 1}
    if actor is None:
        rows = await sql.events.list_all(database, **bounds)
    else:
        rows = await sql.events.list_of_actor(database, actor=actor, **bounds)
    return json_response(_page(rows, page["limit"]))


@routes.get(
    "/api/admin/users/{id}/events",
    operation_id="ListUserEvents",
    auth=Auth.KEY,
    scope=Scope.EVENTS_READ,
    parameters={"id": user_schemas.ID},
    query=PAGE,
    responses={200: EVENTS},
    errors=(NotFound("user"),),
)
async def list_of_user(request: web.Request) -> web.StreamResponse:
    """List the security events of one account, newest first, also of a deleted one.

    The list is empty for an unknown id. Respond 404 for an id that is no UUID. To get older events,
    pass ``next_before`` of the response as ``before``.
    """
    page = PAGE.read(request)
    rows = await sql.events.list_of_user(
        request.app[DATABASE],
        user_id=path_uuid(request, "id", "user"),
        before=page["before"] or LARGEST,
        limit=page["limit"] + 1,
    )
    return json_response(_page(rows, page["limit"]))


def _page(rows: Sequence[Any], limit: int) -> dict[str, Any]:
    """Return the page of ``rows``, of which one more than ``limit`` tells of older events."""
    shown = rows[:limit]
    next_before = shown[-1]["id"] if len(rows) > len(shown) else None
    return {"events": [_event(row) for row in shown], "next_before": next_before}


def _event(row: Any) -> dict[str, Any]:
    user_id = row["user_id"]
    return {**event_json(row), "user_id": str(user_id) if user_id is not None else None}
