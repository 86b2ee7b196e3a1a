"""Reject requests that this service does not support: other HTTP versions, encoded bodies."""

from collections.abc import Awaitable

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from service.http.errors import Handler, framework_error_response

SUPPORTED_VERSIONS = (HttpVersion10, HttpVersion11)


@web.middleware
def reject_unsupported(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Reject other versions of HTTP with 505 and encoded bodies with 415, before the body is read.

    A body can become a thousand times larger by decompression. Decompressing it would block the
    event loop for seconds.
    """
    # Nearly all requests use HTTP/1.1 without an encoding. This check is their only cost.
    if request.version == HttpVersion11 and hdrs.CONTENT_ENCODING not in request.headers:
        return handler(request)
    return _examine(request, handler)


async def _examine(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.version not in SUPPORTED_VERSIONS:
        response = framework_error_response(505)
    elif _is_encoded(request):
        response = framework_error_response(415)
        # RFC 9110, section 15.5.16: a 415 response names the accepted encodings.
        response.headers[hdrs.ACCEPT_ENCODING] = "identity"
    else:
        response = await handler(request)
        if request.version == HttpVersion11 or hdrs.TRANSFER_ENCODING not in request.headers:
            return response
        # RFC 9112, section 6.1: HTTP/1.0 has no chunks. The end of the body is uncertain.
    response.force_close()
    return response


def _is_encoded(request: web.Request) -> bool:
    """Return whether a ``Content-Encoding`` header lists a coding other than ``identity``."""
    listed = ",".join(request.headers.getall(hdrs.CONTENT_ENCODING, ())).split(",")
    return any(coding.strip(" \t").lower() not in ("", "identity") for coding in listed)
