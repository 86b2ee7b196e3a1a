"""The most used tags."""

from aiohttp import web

import sql
from service.database.pool import DATABASE
from service.http.openapi.schemas import array_of, object_of, string
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef

routes = RouteTableDef()

MAX_TAGS = 100


@routes.get(
    "/api/tags",
    operation_id="GetTags",
    auth=Auth.NONE,
    responses={200: object_of(tags=array_of(string(example="dragons")))},
)
async def list_tags(request: web.Request) -> web.StreamResponse:
    """List the most used tags, in descending order of use."""
    rows = await sql.tags.most_used(request.app[DATABASE], limit=MAX_TAGS)
    return json_response({"tags": [row["tag"] for row in rows]})
