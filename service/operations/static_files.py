"""``GET /static/{name}`` and ``GET /favicon.ico``: the style of pages, the icon, seed pictures."""

import functools
from importlib.resources import files

from aiohttp import web

from service.http.errors import NotFound
from service.http.openapi.schemas import Media, one_of
from service.http.routes import Auth, RouteTableDef

PICTURES = ("anna", "ines", "jonas", "leila", "marek", "samira", "tobias", "yuki")
"""The authors of the example blog (``service/conduit/seed.py``)."""

CSS, ICON, SVG = "text/css", "image/x-icon", "image/svg+xml"
TYPES = {"pages.css": CSS, **{f"{name}.svg": SVG for name in PICTURES}}
"""The files with their content types. No other file is served."""

FAVICON = "favicon.ico"
HEADERS = {
    # A browser runs the scripts of an SVG that is opened as a page.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "public, max-age=3600",
}

routes = RouteTableDef(tag="Operations")


@functools.cache
def contents() -> dict[str, bytes]:
    """Return the files by name. The application reads them once, at start."""
    folder = files("service.operations") / "static"
    return {name: (folder / name).read_bytes() for name in (FAVICON, *TYPES)}


@routes.get(
    "/static/{name}",
    operation_id="GetStaticFile",
    auth=Auth.NONE,
    parameters={"name": one_of(*TYPES)},
    responses={200: Media((CSS, SVG), {})},
    errors=(NotFound("file"),),
)
async def static_file(request: web.Request) -> web.StreamResponse:
    """Get a file that a page loads, or the picture of an author of the example blog."""
    name = request.match_info["name"]
    if name not in TYPES:
        raise NotFound("file")
    return _file(name, TYPES[name])


@routes.get(
    "/favicon.ico",
    operation_id="GetFavicon",
    auth=Auth.NONE,
    responses={200: Media((ICON,), {})},
)
async def favicon(request: web.Request) -> web.StreamResponse:
    """Get the icon that browsers show for the pages of the service."""
    return _file(FAVICON, ICON)


def _file(name: str, content_type: str) -> web.Response:
    charset = "" if content_type == ICON else "; charset=utf-8"
    headers = {**HEADERS, "Content-Type": content_type + charset}
    return web.Response(body=contents()[name], headers=headers)
