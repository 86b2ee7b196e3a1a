"""The ``Authorization`` header, and the middleware that authenticates a request for its route.

The flag ``auth`` on the route decides whether a request without a valid token is rejected. The
token names the user: ``request["user"]`` is the user, or ``None``. The flag ``role`` names the role
that the user must have. The flag ``fresh`` decides whether the person must have proved lately who
they are. A route for programs requires an API key instead, ``request["key"]``, with the scope in
the flag ``scope``.
"""

from collections.abc import Callable
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from service.http.app_keys import (
    AUTHENTICATE,
    AUTHENTICATE_KEY,
    REQUIRE_FRESH_PROOF,
    Authenticate,
)
from service.http.client import client_of
from service.http.error_codes import ErrorCode
from service.http.errors import (
    Handler,
    InvalidKey,
    RoleRequired,
    ScopeRequired,
    Unauthorized,
)
from service.http.routes import Auth, Operation, operation_of

RequireSetup = Callable[[Any, Operation | None], Any]

SCHEME = "Token "
EXPECTED_FORM = "is invalid: expected the header 'Authorization: Token <jwt>'"
KEY_SCHEME = "bearer "
EXPECTED_FORM_OF_KEY = "is invalid: expected the header 'Authorization: Bearer <key>'"


def read_token(request: web.Request) -> str | None:
    """Return the token of the ``Authorization`` header, or ``None`` without that header.

    Accepts the word ``Token``, one space, the token, in one header; raises ``Unauthorized`` for
    anything else.
    """
    headers = request.headers.getall(hdrs.AUTHORIZATION, None)
    if headers is None:
        return None
    value = headers[0]
    token = value[len(SCHEME) :]
    if len(headers) != 1 or not value.startswith(SCHEME) or not token or " " in token:
        raise invalid_token(EXPECTED_FORM)
    return token


def invalid_token(message: str = "is invalid") -> Unauthorized:
    """Return the error for a token that this service did not sign, or for a malformed header.

    ``message`` begins with "is invalid".
    """
    return Unauthorized("token", message, code=ErrorCode.TOKEN_INVALID)


def read_key(request: web.Request) -> str:
    """Return the API key of the ``Authorization`` header (RFC 6750, section 2.1).

    Raise ``InvalidKey`` unless the request has one such header with the scheme ``Bearer``, in any
    case, one space and the key.
    """
    headers = request.headers.getall(hdrs.AUTHORIZATION, None)
    if headers is None:
        raise InvalidKey("is missing", code=ErrorCode.KEY_MISSING)
    value = headers[0]
    key = value[len(KEY_SCHEME) :]
    is_bearer = value[: len(KEY_SCHEME)].lower() == KEY_SCHEME
    if len(headers) != 1 or not is_bearer or not key or " " in key:
        raise invalid_key(EXPECTED_FORM_OF_KEY)
    return key


def invalid_key(message: str = "is invalid") -> InvalidKey:
    """Return the error for a key that is unknown or revoked, or for a malformed header.

    ``message`` begins with "is invalid".
    """
    return InvalidKey(message, code=ErrorCode.KEY_INVALID)


async def authenticate_key(request: web.Request, scope: str) -> None:
    """Set ``request["key"]`` to the API key of the request, which must have ``scope``.

    Raise ``InvalidKey``, ``ScopeRequired`` and ``TooManyAttempts``.
    """
    key = await request.app[AUTHENTICATE_KEY](read_key(request), client_of(request))
    if scope not in key.scopes:
        raise ScopeRequired(scope)
    request["key"] = key


async def reauthenticate(request: web.Request) -> None:
    """Authenticate a request again. Raise an ``ApiError``.

    A client may send its body slowly, and since the head arrived its session may have ended, the
    user may have lost a role, or the API key may have been revoked.
    """
    operation = operation_of(request)
    if operation is not None and operation.scope is not None:
        await authenticate_key(request, operation.scope)
        return
    token = read_token(request)
    assert token is not None, "only an authenticated request is authenticated again"
    request["user"] = user = await request.app[AUTHENTICATE](token)
    if operation is not None and operation.role is not None:
        _require_role(user, operation.role)


def _require_role(user: Any, role: str) -> None:
    if role not in user.roles:
        raise RoleRequired(role)


def auth_middleware(
    authenticate: Authenticate, require_setup: RequireSetup | None = None
) -> Middleware:
    """Set ``request["user"]``, or reject the request, as the flag of its route says.

    ``require_setup`` returns the user whom the handler gets, or raises an ``ApiError``.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        operation = operation_of(request)
        if operation is not None:
            auth = operation.auth
            if operation.scope is not None:
                await authenticate_key(request, operation.scope)
                return await handler(request)
        else:
            # aiohttp's own responses to unknown paths and methods pass. Any other handler without a
            # flag, such as one of aiohttp's own route table, requires a user.
            unknown = request.match_info.http_exception is not None
            auth = Auth.NONE if unknown else Auth.REQUIRED
        if auth is not Auth.NONE:
            try:
                token = read_token(request)
                user = await authenticate(token) if token is not None else None
            except Unauthorized:
                if auth is Auth.REQUIRED:
                    raise
                user = None
            if user is None and auth is Auth.REQUIRED:
                raise Unauthorized("token", "is missing", code=ErrorCode.TOKEN_MISSING)
            if require_setup is not None and user is not None:
                user = require_setup(user, operation)
            request["user"] = user
            if operation is not None:
                if operation.role is not None:
                    _require_role(user, operation.role)
                if operation.fresh:
                    await request.app[REQUIRE_FRESH_PROOF](user)
        return await handler(request)

    return middleware
