"""Requests in a form that this service does not support: other versions of HTTP, encoded bodies."""

from collections.abc import Awaitable

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from service.http.errors import Handler, framework_error_response

SUPPORTED_VERSIONS = (HttpVersion10, HttpVersion11)


@web.middleware
def refuse_unsupported(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Reject other versions of HTTP with 505 and encoded bodies with 415, before the body is read.

    A compressed body can be a thousand times larger than what was sent, and decompressing it takes
    seconds on the event loop.
    """
    # Nearly every request has neither, and this is the whole cost for it.
    if request.version == HttpVersion11 and hdrs.CONTENT_ENCODING not in request.headers:
        return handler(request)
    return _examine(request, handler)


async def _examine(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.version not in SUPPORTED_VERSIONS:
        response = framework_error_response(505)
    elif _is_encoded(request):
        response = framework_error_response(415)
        # RFC 9110, section 15.5.16: it names what would be accepted.
        response.headers[hdrs.ACCEPT_ENCODING] = "identity"
    else:
        response = await handler(request)
        if request.version == HttpVersion11 or hdrs.TRANSFER_ENCODING not in request.headers:
            return response
        # RFC 9112, section 6.1: HTTP/1.0 has no chunks, so the end of the body is not certain.
    response.force_close()
    return response


def _is_encoded(request: web.Request) -> bool:
    """Whether a ``Content-Encoding`` header lists anything but ``identity``."""
    listed = ",".join(request.headers.getall(hdrs.CONTENT_ENCODING, ())).split(",")
    return any(coding.strip(" \t").lower() not in ("", "identity") for coding in listed)
