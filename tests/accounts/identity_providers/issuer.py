"""An OpenID Connect provider whose every part a test can bend.

Without a bend it is correct. The certified provider of the other tests refuses to do these things
wrong.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import hdrs, web
from yarl import URL

from tests.accounts.identity_providers.provider_server import (
    Fault,
    Handler,
    ProviderServer,
    json_response,
)
from tests.accounts.identity_providers.signing import (
    Document,
    RSAKey,
    Sign,
    base64url,
    jwk_of,
    rsa_key,
    sign,
)

CLIENT_ID = "conduit"
CLIENT_SECRET = "secret of the client, with + / and %"
ID_TOKEN_LIFETIME = 300
"""In seconds."""

Bend = Callable[[Document], Document]


def unbent(document: Document) -> Document:
    return document


@dataclass(frozen=True)
class Bends:
    """The wrong parts of a provider. Each function gets the correct part and returns the wrong one.

    ``callback``: the query with which ``/authorize`` redirects back (``code``, ``state``, ``iss``).
    ``claims`` and ``header``: the claims and the JOSE header of the ID token, before the signature.
    ``sign``: the function that makes the ID token of them. ``signing.py`` has wrong ones.
    ``id_token``: the whole ID token, after the signature.
    ``tokens``: the response of ``/token``, with ``access_token``, ``token_type``, ``id_token``.
    ``userinfo``, ``discovery``, ``jwks``: the responses of these endpoints.
    """

    callback: Bend = unbent
    claims: Bend = unbent
    header: Bend = unbent
    sign: Sign = sign
    id_token: Callable[[str], Any] = str
    tokens: Bend = unbent
    userinfo: Bend = unbent
    discovery: Bend = unbent
    jwks: Bend = unbent


@dataclass
class Grant:
    """An authorization code, with the query of its authorization request."""

    query: Mapping[str, str]
    is_used: bool = False


@dataclass
class Issuer(ProviderServer):
    """Serve an issuer with one client and one user, who consents at once.

    ``profile`` has the claims of the user for the ID token and ``/userinfo``. With
    ``is_profile_in_id_token`` False the ID token has ``sub`` alone, as OpenID Connect Core, section
    5.4 demands. ``redirect_uri`` is the registered one; without one, the issuer accepts any. With
    ``consents`` False, ``/authorize`` only records the request.
    """

    name: str = "issuer"
    client_id: str = CLIENT_ID
    client_secret: str = CLIENT_SECRET
    redirect_uri: str | None = None
    consents: bool = True
    profile: Document = field(
        default_factory=lambda: {
            "sub": "248289761001",
            "email": "jake@example.test",
            "email_verified": True,
            "preferred_username": "jake",
            "name": "Jake Jones",
            "picture": "https://example.test/jake.png",
        }
    )
    is_profile_in_id_token: bool = True
    kid: str = "first"
    bends: Bends = field(default_factory=Bends)
    grants: dict[str, Grant] = field(default_factory=dict)
    access_tokens: set[str] = field(default_factory=set)

    def bend(self, *, faults: Mapping[str, Fault] | None = None, **bends: Any) -> None:
        """Make parts of the issuer wrong, and keep earlier bends.

        ``faults`` maps a path to a fault of ``provider_server.py``. ``bends`` are fields of
        ``Bends``, such as ``claims=lambda claims: {**claims, "nonce": "other"}``.
        """
        self.faults.update(faults or {})
        self.bends = replace(self.bends, **bends)

    def rotate_key(self, kid: str = "second") -> None:
        """Sign with a new key from now on, and remove the old one from the JWKS."""
        self.kid = kid

    @property
    def key(self) -> RSAKey:
        """Return the key that signs. Issuers of one name share it: a new key takes 100 ms."""
        return rsa_key(f"{self.name} {self.kid}")

    @property
    def settings(self) -> Document:
        """Return the object for ``OIDC_PROVIDERS``, without a label and algorithms."""
        return {
            "name": self.name,
            "issuer": self.url,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
        }

    def routes(self) -> dict[str, Handler]:
        return {
            "GET /.well-known/openid-configuration": self._discovery,
            "GET /authorize": self._authorize,
            "POST /token": self._token,
            "GET /userinfo": self._userinfo,
            "GET /jwks": self._jwks,
        }

    async def _discovery(self, request: web.BaseRequest, form: Document) -> web.Response:
        document = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "email", "profile"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "authorization_response_iss_parameter_supported": True,
        }
        return json_response(self.bends.discovery(document))

    async def _jwks(self, request: web.BaseRequest, form: Document) -> web.Response:
        key = jwk_of(self.key, kid=self.kid, use="sig", alg="RS256")
        return json_response(self.bends.jwks({"keys": [key]}))

    async def _authorize(self, request: web.BaseRequest, form: Document) -> web.Response:
        query = request.query
        redirect_uri = query.get("redirect_uri", "")
        if query.get("client_id") != self.client_id or not redirect_uri:
            return web.Response(status=400, text="unknown client")
        if self.redirect_uri not in (None, redirect_uri):
            return web.Response(status=400, text="unknown redirect_uri")
        if not self.consents:
            return web.Response(text="Do you consent?")
        response_query = {"state": query.get("state", ""), "iss": self.url}
        if (
            query.get("response_type") != "code"
            or "openid" not in query.get("scope", "").split()
            or query.get("code_challenge_method") != "S256"
            or not query.get("code_challenge")
        ):
            response_query["error"] = "invalid_request"
        else:
            response_query["code"] = secrets.token_urlsafe(16)
            self.grants[response_query["code"]] = Grant(dict(query))
        location = URL(redirect_uri).update_query(self.bends.callback(response_query))
        return web.Response(status=302, headers={hdrs.LOCATION: str(location)})

    def _is_client(self, request: web.BaseRequest, form: Document) -> bool:
        """Return whether the request has the client's id and secret, in exactly one place."""
        given = [(form["client_id"], form["client_secret"])] if "client_secret" in form else []
        scheme, _, encoded = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme == "Basic":
            # RFC 6749, section 2.3.1: both parts are form-encoded before Base64.
            name, _, password = base64.b64decode(encoded).decode().partition(":")
            given.append((unquote_plus(name), unquote_plus(password)))
        return given == [(self.client_id, self.client_secret)]

    async def _token(self, request: web.BaseRequest, form: Document) -> web.Response:
        if not self._is_client(request, form):
            return json_response({"error": "invalid_client"}, 401)
        if form.get("grant_type") != "authorization_code":
            return json_response({"error": "unsupported_grant_type"}, 400)
        grant = self.grants.get(form.get("code", ""))
        challenge = base64url(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            grant is None
            or grant.is_used
            or form.get("redirect_uri") != grant.query["redirect_uri"]
            or challenge != grant.query["code_challenge"]
        ):
            return json_response({"error": "invalid_grant"}, 400)
        grant.is_used = True
        access_token = secrets.token_urlsafe(16)
        self.access_tokens.add(access_token)
        document = {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": 3600,
            "id_token": self.make_id_token(grant.query, access_token),
        }
        return json_response(self.bends.tokens(document))

    def make_id_token(self, query: Mapping[str, str], access_token: str) -> Any:
        """Return the ID token for an authorization request, with the bends."""
        now = int(time.time())
        profile = self.profile if self.is_profile_in_id_token else {"sub": self.profile["sub"]}
        claims = {
            **profile,
            "iss": self.url,
            "aud": self.client_id,
            "iat": now,
            "exp": now + ID_TOKEN_LIFETIME,
            # OpenID Connect Core, section 3.1.3.6.
            "at_hash": base64url(hashlib.sha256(access_token.encode()).digest()[:16]),
        }
        if "nonce" in query:
            claims["nonce"] = query["nonce"]
        if "max_age" in query or query.get("prompt") == "login":
            claims["auth_time"] = now
        header = {"alg": "RS256", "typ": "JWT", "kid": self.kid}
        bends = self.bends
        token = bends.sign(self.key, bends.header(header), bends.claims(claims))
        return bends.id_token(token)

    async def _userinfo(self, request: web.BaseRequest, form: Document) -> web.Response:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme != "Bearer" or token not in self.access_tokens:
            return json_response({"error": "invalid_token"}, 401)
        return json_response(self.bends.userinfo(dict(self.profile)))
