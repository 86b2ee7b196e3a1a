"""Who is asking: the flag on a route, the ``Token`` header, and the middleware that joins them.

The token identifies, the flag refuses. ``request["user"]`` is the user, or ``None`` for nobody.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from service.http.errors import Handler, Unauthorized
from service.http.routes import Auth, operation_of

SCHEME = "Token "
EXPECTED_FORM = "is invalid: expected the header 'Authorization: Token <jwt>'"

SAFE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})

Identify = Callable[[str], Awaitable[Any]]
"""Finds the user of a token, or raises ``Unauthorized``."""

IDENTIFY: web.AppKey[Identify] = web.AppKey("identify")

Settled = Callable[[], AbstractAsyncContextManager[None]]
"""Around a handler: ends once this process knows of every change of an account it committed."""


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
        raise invalid_token(EXPECTED_FORM)
    return token


def invalid_token(message: str = "is invalid") -> Unauthorized:
    """The refusal of a token that is not one of ours; ``message`` begins with "is invalid"."""
    return Unauthorized("token", message, code="token_invalid")


async def identify_again(request: web.Request) -> None:
    """Look at the token of a request anew. Raises ``Unauthorized`` when it counts no more.

    For one that was kept waiting by its own client: a session may have ended since.
    """
    token = read_token(request)
    assert token is not None, "only what was identified is identified again"
    request["user"] = await request.app[IDENTIFY](token)


def auth_middleware(identify: Identify, settled: Settled) -> Middleware:
    """Sets ``request["user"]`` as the route's flag says, or refuses.

    ``settled`` is around every handler that may change something.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        operation = operation_of(request)
        if operation is not None:
            auth = operation.auth
        else:
            # aiohttp's own answers to unknown paths and methods pass; any other handler without a
            # flag, such as one of aiohttp's own route table, is closed.
            unknown = request.match_info.http_exception is not None
            auth = Auth.NONE if unknown else Auth.REQUIRED
        if auth is not Auth.NONE:
            try:
                token = read_token(request)
                user = await identify(token) if token is not None else None
            except Unauthorized:
                if auth is Auth.REQUIRED:
                    raise
                user = None
            if user is None and auth is Auth.REQUIRED:
                raise Unauthorized("token", "is missing", code="token_missing")
            request["user"] = user
        if request.method in SAFE:
            return await handler(request)
        async with settled():
            return await handler(request)

    return middleware
