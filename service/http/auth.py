"""The ``Token`` header, and the middleware that authenticates a request as its route demands.

The token names the user. The flag ``auth`` on the route decides whether a request without a valid
token is rejected. ``request["user"]`` is the user, or ``None``. The flag ``role`` names the role
that the user must have. The flag ``fresh`` decides whether the person must have proved lately who
they are.
"""

from collections.abc import Callable
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from service.http.app_keys import AUTHENTICATE, REQUIRE_FRESH_PROOF, Authenticate
from service.http.error_codes import ErrorCode
from service.http.errors import Handler, RoleRequired, Unauthorized
from service.http.routes import Auth, Operation, operation_of

RequireSetup = Callable[[Any, Operation | None], Any]

SCHEME = "Token "
EXPECTED_FORM = "is invalid: expected the header 'Authorization: Token <jwt>'"


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


async def reauthenticate(request: web.Request) -> None:
    """Authenticate a request again. Raise ``Unauthorized`` and ``RoleRequired``.

    A client may send its body slowly, and since the head arrived its session may have ended, or the
    user may have lost a role.
    """
    token = read_token(request)
    assert token is not None, "only an authenticated request is authenticated again"
    request["user"] = user = await request.app[AUTHENTICATE](token)
    operation = operation_of(request)
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
