"""Refresh tokens: each is used once and replaced by the next. Reuse reveals a copied token.

RFC 9700, section 4.14.2 (rotation): a replaced token that is presented again was copied. The
service cannot distinguish the thief from the owner, so it revokes the session for both. The
response follows RFC 6749, section 5.1.

The session counts generations. A token of the current generation rotates: it begins the next
generation. A token of the previous generation, the immediate parent, is accepted for
``REFRESH_GRACE`` seconds: two tabs may refresh simultaneously, or a client may retry after a lost
response. The parent gets one more token of the current generation, and the session stays in this
generation. Otherwise each of many simultaneous refreshes would turn the tokens of the others into
grandparents. The use of an older token is reuse. docs/decisions/refresh-grace.md explains why the
grace period is a length of time.
"""

from typing import Any

import voluptuous as vol
from aiohttp import web

import sql
from service.accounts.security_log import EventKind
from service.accounts.sessions.access_tokens import ACCESS_TOKEN, AccessToken
from service.accounts.sessions.authentication import TOKENS
from service.accounts.sessions.opaque_tokens import digest_of, new_token
from service.accounts.sessions.sessions import EXPIRES_IN, REFRESH_TOKEN
from service.accounts.throttling.throttle import THROTTLE
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import client_of
from service.http.error_codes import ErrorCode
from service.http.errors import TooManyAttempts, Unauthorized
from service.http.openapi.schemas import object_of, one_of
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.http.validation import Text, required

routes = RouteTableDef(tag="Sessions")

REFRESH = vol.Schema(
    {required("refresh_token"): Text(example=REFRESH_TOKEN["examples"][0])},
    extra=vol.REMOVE_EXTRA,
)
REFRESHED = object_of(
    access_token=ACCESS_TOKEN,
    token_type=one_of("Token"),
    expires_in=EXPIRES_IN,
    refresh_token=REFRESH_TOKEN,
)

REJECTIONS = {
    "unknown": ("is invalid", ErrorCode.REFRESH_TOKEN_INVALID),
    "reused": ("has been used before", ErrorCode.REFRESH_TOKEN_REUSED),
    "expired": ("has expired", ErrorCode.REFRESH_TOKEN_EXPIRED),
    "evicted": ("has been revoked", ErrorCode.SESSION_EVICTED),
    "ended": ("has been revoked", ErrorCode.REFRESH_TOKEN_REVOKED),
}
"""The message and the code of a rejected refresh token, by the reason."""


def _rejection(reason: str) -> Unauthorized:
    """Return the error for a refresh token that is rejected for ``reason``."""
    message, code = REJECTIONS[reason]
    return Unauthorized("refresh_token", message, code=code)


@routes.post(
    "/api/auth/refresh",
    operation_id="RefreshToken",
    auth=Auth.NONE,
    body=REFRESH,
    responses={200: REFRESHED},
    errors=(
        *(_rejection(reason) for reason in REJECTIONS),
        TooManyAttempts("refresh", retry_after=60),
    ),
)
async def refresh(request: web.Request) -> web.StreamResponse:
    """Exchange a refresh token for a new access token and the next refresh token."""
    given = await read_body(request)
    client = client_of(request)
    settings = request.app[SETTINGS]
    new = new_token()
    session = await sql.refresh.use(
        request.app[DATABASE],
        digest=digest_of(given["refresh_token"]),
        grace=settings.refresh_grace,
        new_digest=new.digest,
        ttl=settings.refresh_token_ttl,
        ip=client.ip,
        user_agent=client.user_agent,
        ip_key=client.ip_key,
        known_ttl=settings.known_address_ttl,
        **request.app[THROTTLE].refresh_counters(client),
    )
    if session["state"] != "reused":
        # A rotation changes nothing that a process caches. The response need not wait.
        sql.discard_invalidating_calls()
    # The statement is committed: an error must not roll back the count, or the end of a stolen
    # session.
    if session["retry_after"] is not None:
        raise TooManyAttempts("refresh", retry_after=session["retry_after"])
    if session["state"] not in ("current", "in_grace_period"):
        raise _rejection(_reason(session))
    access = request.app[TOKENS].issue(
        session["user_id"],
        session["id"],
        session["expires_at"].timestamp(),
        session["roles"],
    )
    return tokens_response(access, new.plain)


def tokens_response(access: AccessToken, refresh_token: str) -> web.StreamResponse:
    """Return the response with new tokens (RFC 6749, section 5.1)."""
    body = {
        "access_token": access.token,
        "token_type": "Token",
        "expires_in": access.expires_in,
        "refresh_token": refresh_token,
    }
    return json_response(body)


def _reason(session: Any) -> str:
    """Return why ``session`` rejects the token: a key of ``REJECTIONS``."""
    if session["state"] is None:
        return "unknown"
    if session["state"] in ("reused", "expired"):
        return str(session["state"])
    return "evicted" if session["end_reason"] == EventKind.EVICTED else "ended"
