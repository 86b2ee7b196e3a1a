"""Tell other services whether an access token is valid now (RFC 7662)."""

from typing import Any

import voluptuous as vol
from aiohttp import web

from service.accounts.administration.api_keys import Scope
from service.accounts.administration.roles import ROLES
from service.accounts.sessions.access_tokens import ACCESS_TOKEN
from service.accounts.sessions.authentication import AUTHENTICATOR
from service.accounts.two_factor.requirement import TwoFactorSetupRequired, require_two_factor
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.errors import Unauthorized
from service.http.openapi.schemas import boolean, integer, string
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.http.validation import Text, required

routes = RouteTableDef(tag="Tokens")

INTROSPECTION = vol.Schema(
    {required("token"): Text(example=ACCESS_TOKEN["examples"][0])}, extra=vol.REMOVE_EXTRA
)
ID = "0b7a1f52-6a5e-4f0e-9d3a-5f2f0b9a3c11"
RESPONSE = {
    "type": "object",
    "properties": {
        "active": boolean(example=True),
        "sub": string(example=ID, form="uuid"),
        "sid": string(example=ID, form="uuid"),
        "username": string(example="jake"),
        "roles": ROLES,
        "exp": integer(example=1_800_000_000),
        "iss": string(example="https://accounts.example.org"),
    },
    "required": ["active"],
    "additionalProperties": False,
}


@routes.post(
    "/api/auth/introspect",
    operation_id="IntrospectToken",
    auth=Auth.KEY,
    scope=Scope.TOKENS_INTROSPECT,
    body=INTROSPECTION,
    form=True,
    responses={200: RESPONSE},
)
async def introspect(request: web.Request) -> web.StreamResponse:
    """Check whether an access token is valid now.

    The body is a form. Respond 200 with ``active`` true, and with the user as they are now, if this
    service accepts the token. For any other token, also a refresh token, the response has only
    ``active``, which is false. The response never comes from a cache.
    """
    token = (await read_body(request))["token"]
    return json_response(await _introspect(request.app, token))


async def _introspect(app: web.Application, token: str) -> dict[str, Any]:
    settings = app[SETTINGS]
    try:
        claims, user = await app[AUTHENTICATOR].authenticate_now(token)
        if settings.require_two_factor:
            require_two_factor(user, None)
    except (Unauthorized, TwoFactorSetupRequired):
        return {"active": False}
    return {
        "active": True,
        "sub": str(user.id),
        "sid": str(user.session_id),
        "username": user.username,
        "roles": user.roles,
        "exp": claims.expires_at,
        "iss": settings.public_url,
    }
