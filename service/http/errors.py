"""Every error answer: the exceptions that handlers raise, and the one place that renders them.

The shape is ``{"errors": {"<field or subject>": ["message", ...]}, "code": "<stable_code>"}``.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Middleware

from service.http.responses import json_response
from service.settings.settings import Settings

logger = logging.getLogger(__name__)

Errors = Mapping[str, list[str]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SETTINGS = web.AppKey("settings", Settings)

BLANK = "can't be blank"


class ApiError(Exception):
    """An error that the client is told about.

    ``status`` is the HTTP status, ``code`` a name that stays stable for programs, ``errors`` maps a
    field or subject to its messages, ``headers`` are added to the answer.
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
    """400, or 422 under the strict dialect: the input has faults, all of them listed."""

    status = 400
    code = "invalid_input"


class Unauthorized(ApiError):
    """401: wrong credentials, or no token that counts."""

    status = 401
    code = "unauthorized"

    def __init__(self, subject: str, message: str, *, code: str) -> None:
        # RFC 9110, section 15.5.2: a 401 names the scheme that would be accepted.
        super().__init__({subject: [message]}, code=code, headers={"WWW-Authenticate": "Token"})


class Forbidden(ApiError):
    """403: signed in, but not allowed; ``subject`` names what is another's."""

    status = 403
    code = "forbidden"

    def __init__(self, subject: str) -> None:
        super().__init__({subject: ["forbidden"]})


class NotFound(ApiError):
    """404: no such thing; ``subject`` names the kind of thing."""

    status = 404
    code = "not_found"

    def __init__(self, subject: str) -> None:
        super().__init__({subject: ["not found"]})


class Conflict(ApiError):
    """409: a value that must be unique is somebody else's."""

    status = 409
    code = "already_taken"

    def __init__(self, *fields: str) -> None:
        super().__init__({field: ["has already been taken"] for field in fields})


class TooManyAttempts(ApiError):
    """429: a limit is met; ``retry_after`` is in seconds, and never less than one."""

    status = 429
    code = "too_many_attempts"

    def __init__(self, subject: str, *, retry_after: int) -> None:
        headers = {"Retry-After": str(max(1, retry_after))}
        super().__init__({subject: ["too many attempts"]}, headers=headers)


class Unavailable(ApiError):
    """503: a part the request needs cannot take it now; ``retry_after`` is in seconds."""

    status = 503
    code = "unavailable"

    def __init__(self, subject: str, message: str, *, code: str, retry_after: int) -> None:
        headers = {"Retry-After": str(retry_after)}
        super().__init__({subject: [message]}, code=code, headers=headers)


# What aiohttp refuses by itself, in our words: status -> subject, message, code.
_REFUSED = {
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
    """The answer to a request that never reached a handler; ``status`` is the HTTP status."""
    unnamed = ("request", HTTPStatus(status).phrase.lower(), "bad_request")
    subject, message, code = _REFUSED.get(status, unnamed)
    kept = {"Allow": headers["Allow"]} if headers and "Allow" in headers else None
    body = {"errors": {subject: [message]}, "code": code}
    return json_response(body, status=status, headers=kept)


def render(error: ApiError, *, strict: bool) -> web.StreamResponse:
    """The answer for ``error``; ``strict`` tells the RealWorld 2.0.0 dialect."""
    status = 422 if strict and isinstance(error, InvalidInput) else error.status
    body = {"errors": error.errors, "code": error.code}
    return json_response(body, status=status, headers=error.headers)


def internal_error_response() -> web.StreamResponse:
    """The answer to a fault of ours: it tells nothing about it; the log does."""
    body = {"errors": {"server": ["internal error"]}, "code": "internal_error"}
    return json_response(body, status=500)


def error_middleware(expected: Mapping[type[Exception], ApiError], *, strict: bool) -> Middleware:
    """Turns whatever a handler raises into an answer of the one shape.

    ``expected`` is what the client is told when a layer below raises one of these.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return render(error, strict=strict)
        except web.HTTPException as refused:
            return framework_error_response(refused.status, refused.headers)
        except Exception as error:
            if told := expected.get(type(error)):
                return render(told, strict=strict)
            if isinstance(error, ConnectionError) and request.transport is None:
                raise  # The client disconnected: no response can reach it.
            logger.exception("unhandled error")
            return internal_error_response()

    return middleware
