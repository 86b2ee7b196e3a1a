"""Find the handler of a path without parameters by one lookup.

aiohttp's router walks over the parts of a path, calls two coroutines for each candidate, and makes
a new match for each request. Most requests of a front-end have one of few constant paths.
"""

from collections.abc import Awaitable
from functools import partial
from typing import NamedTuple

from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import PlainResource, UrlMappingMatchInfo

from service.http.errors import Handler


class _Match(NamedTuple):
    info: UrlMappingMatchInfo
    handler: Handler  # With all middlewares around it.


class StaticRoutes:
    """Handle requests like ``app``, which must be frozen. Give it what is not a static path."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._matches: dict[tuple[str, str], _Match] = {}
        for resource in app.router.resources():
            if isinstance(resource, PlainResource):
                for route in resource:
                    self._matches[route.method, resource.canonical] = self._match(route)

    def _match(self, route: web.AbstractRoute) -> _Match:
        info = UrlMappingMatchInfo({}, route)
        info.add_app(self._app)
        info.freeze()
        handler: Handler = route.handler
        for middleware in reversed(self._app.middlewares):
            handler = partial(middleware, handler=handler)
        return _Match(info, handler)

    def handle(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        """Return the response. A target with a query or an escape is left to aiohttp."""
        match = self._matches.get((request.method, request.raw_path))
        if match is None or hdrs.EXPECT in request.headers:
            return self._app._handle(request)
        request._match_info = match.info
        return match.handler(request)
