"""Publish the public keys of access tokens for other services (RFC 7517, a JWK Set)."""

from aiohttp import hdrs, web

from service.accounts.sessions.signing_keys import PUBLISH_SECONDS, SIGNING_KEYS
from service.http.openapi.schemas import array_of, object_of
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef

routes = RouteTableDef(tag="Tokens")

MAX_AGE = PUBLISH_SECONDS // 2
"""Seconds for which a client may cache the keys. A new key signs only after that."""

KEY = {
    "type": "object",
    "examples": [
        {
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "kty": "OKP",
            "use": "sig",
            "alg": "EdDSA",
            "kid": "0b7a1f52-6a5e-4f0e-9d3a-5f2f0b9a3c11",
        }
    ],
}


@routes.get(
    "/.well-known/jwks.json",
    operation_id="GetSigningKeys",
    auth=Auth.NONE,
    responses={200: object_of(keys=array_of(KEY))},
)
async def get_signing_keys(request: web.Request) -> web.StreamResponse:
    """Get the public keys that verify access tokens.

    The list is empty with ``TOKEN_ALGORITHM=HS256``, except for the keys of tokens that have not
    expired. A key is in the list before it signs: clients may cache the response.
    """
    keys = request.app[SIGNING_KEYS]
    await keys.load_once()
    return json_response(
        {"keys": [key.jwk for key in keys.ring.keys.values()]},
        headers={str(hdrs.CACHE_CONTROL): f"public, max-age={MAX_AGE}"},
    )
