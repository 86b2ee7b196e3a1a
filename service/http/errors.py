"""Define the exceptions that handlers raise, and render every error response.

The body is ``{"errors": {"<field or subject>": ["message", ...]}, "code": "<stable_code>"}``.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Middleware

from service.http.responses import json_response

logger = logging.getLogger(__name__)

Errors = Mapping[str, list[str]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BLANK = "can't be blank"


class ApiError(Exception):
    """An error that is shown to the client.

    ``status`` is the HTTP status. ``code`` is a stable name for programs. ``errors`` maps a field
    or subject to its messages. ``headers`` are added to the response.
    """

    status = 500
    code = "internal_error"

    def __init__(
        self, errors: Errors, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(errors)
        self.errors = errors
        self.code = code or type(self).code
        self.headers = dict(headers or {})


class InvalidInput(ApiError):
    """400, or 422 in the strict dialect: the input is invalid. ``errors`` lists every problem."""

    status = 400
    code = "invalid_input"


class Unauthorized(ApiError):
    """401: the credentials are wrong, or the token is missing or invalid."""

    status = 401
    code = "unauthorized"

    def __init__(self, subject: str, message: str, *, code: str) -> None:
        # RFC 9110, section 15.5.2: a 401 response must name an accepted scheme.
        super().__init__({subject: [message]}, code=code, headers={"WWW-Authenticate": "Token"})


class Forbidden(ApiError):
    """403: the request is authenticated, but the resource belongs to another user.

    ``subject`` names the kind of resource.
    """

    status = 403
    code = "forbidden"

    def __init__(self, subject: str) -> None:
        super().__init__({subject: ["forbidden"]})


class NotFound(ApiError):
    """404: the resource does not exist. ``subject`` names the kind of resource."""

    status = 404
    code = "not_found"

    def __init__(self, subject: str) -> None:
        super().__init__({subject: ["not found"]})


class Conflict(ApiError):
    """409: a value that must be unique is already in use."""

    status = 409
    code = "already_taken"

    def __init__(self, *fields: str) -> None:
        super().__init__({field: ["has already been taken"] for field in fields})


class TooManyAttempts(ApiError):
    """429: a rate limit is reached. ``retry_after`` is in seconds. At least one second is sent."""

    status = 429
    code = "too_many_attempts"

    def __init__(self, subject: str, *, retry_after: int) -> None:
        headers = {"Retry-After": str(max(1, retry_after))}
        super().__init__({subject: ["too many attempts"]}, headers=headers)


class Unavailable(ApiError):
    """503: a component that the request needs is unavailable. ``retry_after`` is in seconds."""

    status = 503
    code = "unavailable"

    def __init__(self, subject: str, message: str, *, code: str, retry_after: int) -> None:
        headers = {"Retry-After": str(retry_after)}
        super().__init__({subject: [message]}, code=code, headers=headers)


# Error responses for the requests that aiohttp rejects itself: status -> subject, message, code.
_FRAMEWORK_ERRORS = {
    404: ("path", "not found", "not_found"),
    405: ("method", "not allowed", "method_not_allowed"),
    408: ("body", "took too long to arrive", "request_timeout"),
    413: ("body", "is too large", "body_too_large"),
    415: ("body", "must be sent without a Content-Encoding", "content_encoding_not_supported"),
    417: ("expect", "is not supported", "expectation_failed"),
    505: ("request", "must be HTTP/1.0 or HTTP/1.1", "http_version_not_supported"),
}


def framework_error_response(
    status: int, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Return the response to a request that reached no handler. ``status`` is the HTTP status."""
    default = ("request", HTTPStatus(status).phrase.lower(), "bad_request")
    subject, message, code = _FRAMEWORK_ERRORS.get(status, default)
    kept = {"Allow": headers["Allow"]} if headers and "Allow" in headers else None
    body = {"errors": {subject: [message]}, "code": code}
    return json_response(body, status=status, headers=kept)


def render(error: ApiError, *, strict: bool) -> web.StreamResponse:
    """Return the response for ``error``. ``strict`` selects the RealWorld 2.0.0 dialect."""
    status = 422 if strict and isinstance(error, InvalidInput) else error.status
    body = {"errors": error.errors, "code": error.code}
    return json_response(body, status=status, headers=error.headers)


def internal_error_response() -> web.StreamResponse:
    """Return the response to an internal error. Only the log contains the details."""
    body = {"errors": {"server": ["internal error"]}, "code": "internal_error"}
    return json_response(body, status=500)


def error_middleware(expected: Mapping[type[Exception], ApiError], *, strict: bool) -> Middleware:
    """Convert every exception of a handler into an error response of the common shape.

    ``expected`` maps exception types of lower layers to the errors that are shown to the client.
    ``strict`` selects the RealWorld 2.0.0 dialect.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return render(error, strict=strict)
        except web.HTTPException as rejected:
            return framework_error_response(rejected.status, rejected.headers)
        except Exception as error:
            if mapped := expected.get(type(error)):
                return render(mapped, strict=strict)
            if isinstance(error, ConnectionError) and request.transport is None:
                raise  # The client disconnected. No response can reach it.
            logger.exception("unhandled error")
            return internal_error_response()

    return middleware
