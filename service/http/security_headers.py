"""Set the security headers of every response.

They prevent content type sniffing, cached tokens, disclosure of the server version and, when
clients reach the service over https, requests without TLS.
"""

from aiohttp import hdrs, web
from multidict import istr

NOSNIFF = istr("X-Content-Type-Options")
HSTS = istr("Strict-Transport-Security")
HSTS_POLICY = "max-age=31536000"  # One year (RFC 6797). Not for subdomains: they may be others'.
SAFE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


def add_security_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add the security headers to ``response``, just before its head is written.

    Forbid caching of every response that contains a token (RFC 6749, section 5.1), and of every
    response to an authenticated request. An authenticated request has an ``Authorization`` header.
    Without that header, only methods other than GET and HEAD return a token. A test verifies this.
    """
    headers = response.headers
    headers[NOSNIFF] = "nosniff"
    if hdrs.AUTHORIZATION in request.headers or request.method not in SAFE:
        headers[hdrs.CACHE_CONTROL] = "no-store"


def require_https(response: web.StreamResponse) -> None:
    """Make browsers use https for all later requests to this host (RFC 6797, section 7.1)."""
    response.headers[HSTS] = HSTS_POLICY


async def on_response_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Add the security headers to a response of aiohttp's own classes. Remove ``Server``."""
    add_security_headers(request, response)
    response.headers.popall(hdrs.SERVER, None)
