"""``GET /health``: report whether the service runs and can reach its database."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from service.http.openapi.schemas import object_of, one_of
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef

PING_DATABASE: web.AppKey[Callable[[], Awaitable[bool]]] = web.AppKey("ping_database")
"""Return whether the database responds. The application sets this function at start."""

routes = RouteTableDef(tag="Operations")


@routes.get(
    "/health",
    operation_id="GetHealth",
    auth=Auth.NONE,
    responses={
        200: object_of(status=one_of("ok"), database=one_of("connected")),
        503: object_of(status=one_of("error"), database=one_of("disconnected")),
    },
)
async def health(request: web.Request) -> web.StreamResponse:
    """Check the health of the service.

    The status is 200 if the database responds and 503 if it does not.
    """
    if await request.app[PING_DATABASE]():
        return json_response({"status": "ok", "database": "connected"})
    body = {"status": "error", "database": "disconnected"}
    return json_response(body, status=503, headers={"Retry-After": "2"})
