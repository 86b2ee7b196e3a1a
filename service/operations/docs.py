"""``GET /docs``: show the OpenAPI document in Swagger UI, with all files served locally."""

import functools
from importlib.resources import files

import swagger_ui_bundle
from aiohttp import web

from service.http.errors import NotFound
from service.http.openapi.schemas import Media, one_of, string
from service.http.routes import Auth, RouteTableDef

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # Swagger UI's stylesheet contains its icons as data URLs.
        "img-src 'self' data:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
}

TYPES = {
    "docs.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
"""The files that the page loads, with their content types. No other file is served."""

PAGE = "docs.html"
HTML = "text/html; charset=utf-8"

routes = RouteTableDef(tag="Operations")


@functools.cache
def contents() -> dict[str, bytes]:
    """Return the page and its files by name. The application reads them once, at start."""
    own = files("service.operations") / "static"
    foreign = swagger_ui_bundle.swagger_ui_path
    found = {name: own / name for name in (PAGE, *TYPES)}
    return {
        name: (path if path.is_file() else foreign / name).read_bytes()
        for name, path in found.items()
    }


@routes.get(
    "/docs",
    operation_id="GetDocs",
    auth=Auth.NONE,
    responses={200: Media(("text/html",), string(example="<!doctype html>..."))},
)
async def page(request: web.Request) -> web.StreamResponse:
    """Get the documentation page."""
    return _file(PAGE, HTML)


@routes.get(
    "/docs/{asset:[^/]*}",
    operation_id="GetDocsAsset",
    auth=Auth.NONE,
    parameters={"asset": one_of(*TYPES)},
    responses={200: Media(("text/javascript", "text/css"), {})},
    errors=(NotFound("file"),),
)
async def asset(request: web.Request) -> web.StreamResponse:
    """Get a file of the documentation page."""
    name = request.match_info["asset"]
    if not name:  # The path is /docs/.
        return _file(PAGE, HTML)
    if name not in TYPES:
        raise NotFound("file")
    return _file(name, TYPES[name])


def _file(name: str, content_type: str) -> web.StreamResponse:
    headers = {**HEADERS, "Content-Type": content_type, "Cache-Control": "no-cache"}
    return web.Response(body=contents()[name], headers=headers)
