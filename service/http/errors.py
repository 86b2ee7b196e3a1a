"""Define the exceptions that handlers raise, and render every error response.

The body is ``{"errors": {"<field or subject>": ["message", ...]}, "code": "<code>"}``, with
a code of ``ErrorCode``.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from service.http.error_codes import ErrorCode
from service.http.responses import json_response

logger = logging.getLogger(__name__)

Errors = Mapping[str, list[str]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BLANK = "can't be blank"

BEARER = 'Bearer realm="accounts"'
"""The challenge of a route that requires an API key. It must have a parameter (RFC 6750)."""


class ApiError(Exception):
    """An error that is shown to the client.

    ``code`` determines the HTTP status. ``errors`` maps a field or subject to its messages.
    ``details`` are further keys of the body, for a program. ``headers`` are added to the response.
    """

    def __init__(
        self,
        code: ErrorCode,
        errors: Errors,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(errors)
        self.code = code
        self.errors = errors
        self.details = dict(details or {})
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The body of the response."""
        return {**error_body(self.code, self.errors), **self.details}


class InvalidInput(ApiError):
    """400, or 422 in the strict dialect: the input is invalid. ``errors`` lists every problem."""

    def __init__(self, errors: Errors) -> None:
        super().__init__(ErrorCode.INVALID_INPUT, errors)


class Unauthorized(ApiError):
    """401: the credentials are wrong, or the token is missing or invalid."""

    def __init__(self, subject: str, message: str, *, code: ErrorCode) -> None:
        # RFC 9110, section 15.5.2: a 401 response must name an accepted scheme.
        super().__init__(code, {subject: [message]}, headers={"WWW-Authenticate": "Token"})


class InvalidKey(ApiError):
    """401: the API key is missing or invalid."""

    def __init__(self, message: str, *, code: ErrorCode) -> None:
        # RFC 6750, section 3: a request without a key gets no error code.
        detail = "" if code is ErrorCode.KEY_MISSING else ', error="invalid_token"'
        super().__init__(code, {"key": [message]}, headers={"WWW-Authenticate": BEARER + detail})


class ScopeRequired(ApiError):
    """403: the API key does not have the scope that the route requires."""

    def __init__(self, scope: str) -> None:
        challenge = f'{BEARER}, error="insufficient_scope", scope="{scope}"'
        super().__init__(
            ErrorCode.SCOPE_REQUIRED,
            {"key": [f"does not have the scope {scope}"]},
            headers={"WWW-Authenticate": challenge},
        )


class Forbidden(ApiError):
    """403: the request is authenticated, but the resource belongs to another user.

    ``subject`` names the kind of resource.
    """

    def __init__(self, subject: str) -> None:
        super().__init__(ErrorCode.FORBIDDEN, {subject: ["forbidden"]})


class RoleRequired(ApiError):
    """403: the user does not have ``role``, which the route requires."""

    def __init__(self, role: str) -> None:
        super().__init__(ErrorCode.ROLE_REQUIRED, {"role": [f"must be {role}"]})


class NotFound(ApiError):
    """404: the resource does not exist. ``subject`` names the kind of resource."""

    def __init__(self, subject: str) -> None:
        super().__init__(ErrorCode.NOT_FOUND, {subject: ["not found"]})


class Conflict(ApiError):
    """409: a value that must be unique is already in use."""

    def __init__(self, *fields: str) -> None:
        errors = {field: ["has already been taken"] for field in fields}
        super().__init__(ErrorCode.ALREADY_TAKEN, errors)


class TooManyAttempts(ApiError):
    """429: a rate limit is reached. ``retry_after`` is in seconds. At least one second is sent."""

    def __init__(self, subject: str, *, retry_after: int) -> None:
        headers = {"Retry-After": str(max(1, retry_after))}
        super().__init__(
            ErrorCode.TOO_MANY_ATTEMPTS, {subject: ["too many attempts"]}, headers=headers
        )


class Unavailable(ApiError):
    """503: a component that the request needs is unavailable. ``retry_after`` is in seconds."""

    def __init__(self, subject: str, message: str, *, code: ErrorCode, retry_after: int) -> None:
        super().__init__(code, {subject: [message]}, headers={"Retry-After": str(retry_after)})


# Error responses for the requests that aiohttp rejects itself: status -> subject, message, code.
_FRAMEWORK_ERRORS = {
    404: ("path", "not found", ErrorCode.NOT_FOUND),
    405: ("method", "not allowed", ErrorCode.METHOD_NOT_ALLOWED),
    408: ("body", "took too long to arrive", ErrorCode.REQUEST_TIMEOUT),
    413: ("body", "is too large", ErrorCode.BODY_TOO_LARGE),
    415: (
        "body",
        "must be sent without a Content-Encoding",
        ErrorCode.CONTENT_ENCODING_NOT_SUPPORTED,
    ),
    417: ("expect", "is not supported", ErrorCode.EXPECTATION_FAILED),
    505: ("request", "must be HTTP/1.0 or HTTP/1.1", ErrorCode.HTTP_VERSION_NOT_SUPPORTED),
}


def error_body(code: ErrorCode, errors: Errors) -> dict[str, Any]:
    """Return what the body of every error response has."""
    return {"errors": errors, "code": code}


def framework_error_response(
    status: int, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Return the response to a request that reached no handler. ``status`` is the HTTP status."""
    default = ("request", HTTPStatus(status).phrase.lower(), ErrorCode.BAD_REQUEST)
    subject, message, code = _FRAMEWORK_ERRORS.get(status, default)
    kept = {"Allow": headers["Allow"]} if headers and "Allow" in headers else None
    return json_response(error_body(code, {subject: [message]}), status=status, headers=kept)


def status_of(error: ApiError, *, strict: bool) -> int:
    """Return the HTTP status of ``error``. ``strict`` selects the RealWorld 2.0.0 dialect."""
    return 422 if strict and error.code is ErrorCode.INVALID_INPUT else error.code.status


class Render(Protocol):
    """The interface of ``render``."""

    def __call__(self, error: ApiError, *, strict: bool) -> web.StreamResponse:
        """Return the response for ``error``."""


def render(error: ApiError, *, strict: bool) -> web.StreamResponse:
    """Return the response for ``error``. ``strict`` selects the RealWorld 2.0.0 dialect."""
    status = status_of(error, strict=strict)
    return json_response(error.body, status=status, headers=error.headers)


def internal_error_response() -> web.StreamResponse:
    """Return the response to an internal error. Only the log contains the details."""
    return render(_internal_error(), strict=False)


def _internal_error() -> ApiError:
    return ApiError(ErrorCode.INTERNAL_ERROR, {"server": ["internal error"]})


def error_middleware(
    expected: Mapping[type[Exception], ApiError], *, strict: bool, render: Render = render
) -> Middleware:
    """Convert every exception of a handler into an error response of the common shape.

    ``expected`` maps exception types of lower layers to the errors that are shown to the client.
    ``strict`` selects the RealWorld 2.0.0 dialect. ``render`` returns the response for an error.
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
            return render(_internal_error(), strict=strict)

    return middleware
