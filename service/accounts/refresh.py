"""Refresh tokens: each is used once and replaced by the next, and a copy gives itself away.

RFC 9700, section 4.14.2 (rotation): who shows a token that was already replaced is a thief, or the
owner after a thief; nobody can tell which, so the session ends for both. The answer follows RFC
6749, section 5.1.

The session counts generations. A token of the present one is live, and using it begins the next. A
token of the one before, its immediate parent, is honoured for a moment: two tabs refresh at once,
or an answer is lost and the request sent again. It gets one more token of the present generation,
and the session does not advance: otherwise each of many simultaneous refreshes would make the
others' tokens grandparents. Anything older is reuse.
"""

from typing import Any

import voluptuous as vol
from aiohttp import web

import sql
from service.accounts.events import origin
from service.accounts.identity import TOKENS
from service.accounts.opaque_tokens import digest_of, new_token
from service.accounts.sessions import EXPIRES_IN, REFRESH_TOKEN
from service.accounts.throttle import THROTTLE
from service.accounts.tokens import ACCESS_TOKEN
from service.database.pool import DATABASE
from service.http.client_address import address_key, client_address
from service.http.errors import SETTINGS, Unauthorized
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.http.schemas import object_of, one_of
from service.http.validation import Text, read_body, required

GRACE = 10  # Seconds that the immediate parent is honoured.

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


@routes.post(
    "/api/auth/refresh", auth=Auth.NONE, body=REFRESH, answers={200: REFRESHED}, errors=(401, 429)
)
async def refresh(request: web.Request) -> web.StreamResponse:
    """A refresh token for the next one and an access token: 200, or 401 saying why not."""
    given = await read_body(request)
    await request.app[THROTTLE].admit_refresh(client_address(request))
    shown, new = digest_of(given["refresh_token"]), new_token()
    new_row = {"digest": new.digest, "ttl": request.app[SETTINGS].refresh_token_ttl}
    refused = None
    async with request.app[DATABASE].transaction() as connection:
        session = await sql.refresh.find(connection, digest=shown, grace=GRACE)
        # Of a token that was replaced long ago it does not matter when it would have expired.
        honoured = session is not None and (session["live"] or session["in_grace"])
        if (
            session is None
            or session["end_reason"]
            or session["over"]
            or (honoured and session["expired"])
        ):
            refused = _refusal(session)
        elif session["live"]:
            await sql.refresh.advance(
                connection, session_id=session["id"], **new_row, **origin(request)
            )
            await sql.throttle.renew_address(
                connection,
                user_id=session["user_id"],
                address_key=address_key(client_address(request)),
                known_ttl=request.app[SETTINGS].known_address_ttl,
            )
        elif session["in_grace"]:
            await sql.refresh.issue_another(connection, session_id=session["id"], **new_row)
        else:
            await sql.sessions.end_one(
                connection,
                id=session["id"],
                user_id=session["user_id"],
                kind="refresh_token_reused",
                **origin(request),
            )
            refused = _refused("has been used before", "refresh_token_reused")
    # Raised only now: the end of a stolen session must be committed, not rolled back.
    if refused is not None:
        raise refused
    access = request.app[TOKENS].issue(
        session["user_id"], session["id"], session["expires_at"].timestamp()
    )
    body = {
        "access_token": access.token,
        "token_type": "Token",
        "expires_in": access.expires_in,
        "refresh_token": new.plain,
    }
    # RFC 6749, section 5.1: no cache may keep it.
    return json_response(body, headers={"Cache-Control": "no-store"})


def _refusal(session: Any) -> Unauthorized:
    """Why this session, or none at all, takes no token any more."""
    if session is None:
        return _refused("is invalid", "refresh_token_invalid")
    if session["end_reason"] == "evicted":
        return _refused("has been revoked", "session_evicted")
    if session["end_reason"] is not None:
        return _refused("has been revoked", "refresh_token_revoked")
    return _refused("has expired", "refresh_token_expired")


def _refused(message: str, code: str) -> Unauthorized:
    return Unauthorized("refresh_token", message, code=code)
