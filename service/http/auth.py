"""Who is asking: the flag on a route, the ``Token`` header, and the middleware that joins them.

The token identifies, the flag refuses. ``request["user"]`` is the user, or ``None`` for nobody.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import hdrs, web

from service.http.errors import Handler, Unauthorized
from service.http.routes import Auth, operation_of

SCHEME = "Token "

IDENTIFY: web.AppKey[Callable[[str], Awaitable[Any]]] = web.AppKey("identify")
"""Finds the user of a token, or raises ``Unauthorized``. Set by the application's wiring."""


def read_token(request: web.Request) -> str | None:
    """The token of the ``Authorization`` header, or ``None`` where there is no such header.

    Accepts the word ``Token``, one space, the token, in one header; raises ``Unauthorized`` for
    anything else.
    """
    headers = request.headers.getall(hdrs.AUTHORIZATION, None)
    if headers is None:
        return None
    value = headers[0]
    token = value[len(SCHEME) :]
    if len(headers) != 1 or not value.startswith(SCHEME) or not token or " " in token:
        raise invalid_token()
    return token


def invalid_token() -> Unauthorized:
    """The refusal of a token that is not one of ours."""
    return Unauthorized("token", "is invalid", code="token_invalid")


@web.middleware
async def auth_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set ``request["user"]`` as the route's flag says, or refuse."""
    # aiohttp's own answers to unknown paths and methods pass; any other handler without a flag,
    # such as one of aiohttp's own route table, is closed.
    unknown = request.match_info.http_exception is not None
    unmarked = Auth.NONE if unknown else Auth.REQUIRED
    operation = operation_of(request)
    auth = operation.auth if operation is not None else unmarked
    if auth is Auth.NONE:
        return await handler(request)
    try:
        token = read_token(request)
        request["user"] = await request.app[IDENTIFY](token) if token is not None else None
    except Unauthorized:
        if auth is Auth.REQUIRED:
            raise
        request["user"] = None
    if auth is Auth.REQUIRED and request["user"] is None:
        raise Unauthorized("token", "is missing", code="token_missing")
    return await handler(request)
