"""``GET /``: say what this service is and where to go on, as a page or as JSON."""

import functools
from pathlib import Path

from aiohttp import hdrs, web
from jinja2 import Template

from service.http.openapi.components import INFO
from service.http.openapi.schemas import Media, object_of, one_of, string
from service.http.pages import page_response, page_templates, prefers_html
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.operations.health import PING_DATABASE

NAME, VERSION, SUMMARY = (str(INFO[key]) for key in ("title", "version", "summary"))
LINKS = {"documentation": "/docs", "openapi": "/openapi.json", "health": "/health"}

DESCRIPTION = object_of(
    name=string(example=NAME),
    version=string(example=VERSION),
    database=one_of("connected", "disconnected"),
    **{name: one_of(path) for name, path in LINKS.items()},
)

HINTS = {
    "connected": "The service can handle requests.",
    "disconnected": "Requests that need PostgreSQL get 503 until it responds again.",
}

routes = RouteTableDef(tag="Operations")


@functools.cache
def template() -> Template:
    """Return the template of the page. The application reads it once, at start."""
    return page_templates(Path(__file__).with_name("static")).get_template("home.html")


@routes.get(
    "/",
    operation_id="GetHome",
    auth=Auth.NONE,
    responses={200: Media(("text/html",), string(example="<!doctype html>..."), DESCRIPTION)},
)
async def home(request: web.Request) -> web.StreamResponse:
    """Get the description of the service.

    The response is a page if the client prefers HTML, and JSON otherwise. The status is 200 also
    when the database does not respond: use ``/health`` to monitor the service.
    """
    database = "connected" if await request.app[PING_DATABASE]() else "disconnected"
    description = {"name": NAME, "version": VERSION, "database": database, **LINKS}
    response: web.StreamResponse
    if prefers_html(request):
        page = template().render(description, summary=SUMMARY, hint=HINTS[database])
        response = page_response(page)
    else:
        response = json_response(description, headers={hdrs.CACHE_CONTROL: "no-cache"})
    response.headers[hdrs.VARY] = hdrs.ACCEPT
    return response
