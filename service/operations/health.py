"""``GET /health``: is the service up, and does it reach its database?"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from service.http.openapi.schemas import object_of, one_of
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef

DATABASE_ANSWERS: web.AppKey[Callable[[], Awaitable[bool]]] = web.AppKey("database_answers")
"""Tells whether the database gives a sign of life. Set by the application's wiring."""

routes = RouteTableDef(tag="Operations")


@routes.get(
    "/health",
    auth=Auth.NONE,
    answers={
        200: object_of(status=one_of("ok"), database=one_of("connected")),
        503: object_of(status=one_of("error"), database=one_of("disconnected")),
    },
)
async def health(request: web.Request) -> web.StreamResponse:
    """200 while the database answers, 503 while it does not."""
    if await request.app[DATABASE_ANSWERS]():
        return json_response({"status": "ok", "database": "connected"})
    body = {"status": "error", "database": "disconnected"}
    return json_response(body, status=503, headers={"Retry-After": "2"})
