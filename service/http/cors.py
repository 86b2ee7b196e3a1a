"""Cross-origin requests (Fetch standard, CORS): which web pages may call the service.

No cookies or other CORS credentials are involved. A page must set the token in a header itself, so
a page of any origin can do only what its user's token allows. No page may call a route that
requires an API key, whatever its origin: a key in a page is a key in the hands of all its visitors.
"""

from collections.abc import Awaitable

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from service.http.errors import Handler
from service.http.routes import Auth, operation_of

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
HEADERS = "authorization, content-type, x-request-id"
EXPOSED = "Retry-After, X-Request-ID"
MAX_AGE = "7200"  # Seconds that a browser may cache a preflight response. Chromium's maximum.


def cors_middleware(origins: tuple[str, ...]) -> Middleware:
    """Allow requests from ``origins``, such as ``https://example.org``, or ``*`` for all."""
    any_origin = "*" in origins

    async def respond(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        allowed = any_origin or origin in origins
        is_preflight = (
            request.method == hdrs.METH_OPTIONS
            and origin is not None
            and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        )
        if allowed and await _requires_key(request, is_preflight=is_preflight):
            allowed = False
        response = web.Response(status=204) if is_preflight and allowed else await handler(request)
        if not any_origin:
            # A cache must not return the response for one origin to another origin.
            response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        if origin is not None and allowed:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*" if any_origin else origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED
            if is_preflight:
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = METHODS
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = HEADERS
                response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = MAX_AGE
        return response

    @web.middleware
    def middleware(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        # Most requests have no Origin header. Skip the coroutine for them: it would add nothing.
        if any_origin and hdrs.ORIGIN not in request.headers:
            return handler(request)
        return respond(request, handler)

    return middleware


async def _requires_key(request: web.Request, *, is_preflight: bool) -> bool:
    """Return whether the route of ``request`` requires an API key.

    A preflight asks about another method, so its own request has no route.
    """
    if is_preflight:
        method = request.headers[hdrs.ACCESS_CONTROL_REQUEST_METHOD]
        asked = request.clone(method=method)
        asked._match_info = await request.app.router.resolve(asked)
        request = asked
    operation = operation_of(request)
    return operation is not None and operation.auth is Auth.KEY
