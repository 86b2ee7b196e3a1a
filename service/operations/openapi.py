"""``GET /openapi.json``: the OpenAPI document of this service."""

from aiohttp import web

from service.http.app_keys import DOCUMENT
from service.http.openapi.schemas import string
from service.http.responses import JSON
from service.http.routes import Auth, RouteTableDef

routes = RouteTableDef(tag="Operations")


@routes.get(
    "/openapi.json",
    operation_id="GetOpenApiDocument",
    auth=Auth.NONE,
    responses={
        200: {
            "type": "object",
            "properties": {"openapi": string(example="3.1.0")},
            "required": ["openapi", "info", "paths", "components"],
            "examples": [{"openapi": "3.1.0", "info": {}, "paths": {}, "components": {}}],
        }
    },
)
async def show(request: web.Request) -> web.StreamResponse:
    """Get the OpenAPI document."""
    return web.Response(body=request.app[DOCUMENT], headers={"Content-Type": JSON})
