"""Headers that protect every response: no guessed content type, no cached token, no version."""

from aiohttp import hdrs, web
from multidict import istr

NOSNIFF = istr("X-Content-Type-Options")
SAFE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


def add_security_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add them to ``response``, just before its head is written.

    No cache may keep the response to a request that was authenticated, and none with a token in it
    (RFC 6749, section 5.1). The first has an ``Authorization`` header; the second is, without one,
    only ever the response to a method other than GET, which a test holds.
    """
    headers = response.headers
    headers[NOSNIFF] = "nosniff"
    if hdrs.AUTHORIZATION in request.headers or request.method not in SAFE:
        headers[hdrs.CACHE_CONTROL] = "no-store"


async def on_response_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Do the same for a response of aiohttp's own classes, and remove its ``Server`` header."""
    add_security_headers(request, response)
    response.headers.popall(hdrs.SERVER, None)
