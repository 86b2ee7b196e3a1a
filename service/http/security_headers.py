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


def may_have_token(request: web.BaseRequest) -> bool:
    """Return whether the response to ``request`` may contain a token or private data.

    Such a response must not be cached (RFC 6749, section 5.1). An authenticated request has an
    ``Authorization`` header. Without that header, only methods other than GET and HEAD return a
    token. A test verifies this.
    """
    return hdrs.AUTHORIZATION in request.headers or request.method not in SAFE


def require_https(response: web.StreamResponse) -> None:
    """Make browsers use https for all later requests to this host (RFC 6797, section 7.1)."""
    response.headers[HSTS] = HSTS_POLICY


async def on_response_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Add the security headers to a response of aiohttp's own classes. Remove ``Server``."""
    headers = response.headers
    headers[NOSNIFF] = "nosniff"
    if may_have_token(request):
        headers[hdrs.CACHE_CONTROL] = "no-store"
    headers.popall(hdrs.SERVER, None)
