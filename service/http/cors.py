"""Cross-origin requests (Fetch standard, CORS): which web pages may call the service.

No credentials are involved: the token travels in a header that a page must set by itself, so a
page of any origin can only do what its reader's token lets it.
"""

from collections.abc import Awaitable

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from service.http.errors import Handler

METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
HEADERS = "authorization, content-type, x-request-id"
EXPOSED = "Retry-After, X-Request-ID"
MAX_AGE = "7200"  # Seconds that a browser may remember the answer; Chromium takes no more.


def cors_middleware(origins: tuple[str, ...]) -> Middleware:
    """Lets pages from ``origins`` (such as ``https://example.org``, or ``*`` for all) call."""
    everyone = "*" in origins

    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        allowed = everyone or origin in origins
        asks_before = (
            request.method == hdrs.METH_OPTIONS
            and origin is not None
            and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        )
        response = web.Response(status=204) if asks_before and allowed else await handler(request)
        if not everyone:
            # A cache must not give one origin's answer to another.
            response.headers[hdrs.VARY] = hdrs.ORIGIN
        if origin is not None and allowed:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*" if everyone else origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED
            if asks_before:
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = METHODS
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = HEADERS
                response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = MAX_AGE
        return response

    @web.middleware
    def middleware(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        # Most requests are no page's, and get the same answer as if this layer were not there.
        if everyone and hdrs.ORIGIN not in request.headers:
            return handler(request)
        return answer(request, handler)

    return middleware
