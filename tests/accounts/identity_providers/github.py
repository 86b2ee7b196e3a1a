"""The parts of GitHub and of its API that a sign-in uses."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from aiohttp import hdrs, web
from yarl import URL

from tests.accounts.identity_providers.provider_server import (
    Handler,
    ProviderServer,
    json_response,
)
from tests.accounts.identity_providers.signing import Document, base64url

CLIENT_ID = "Iv1.conduit"
CLIENT_SECRET = "github secret of the client"


def email(address: str, *, is_primary: bool = True, is_verified: Any = True) -> Document:
    """Return an element of ``/user/emails``."""
    visibility = "private" if is_primary else None
    return {
        "email": address,
        "primary": is_primary,
        "verified": is_verified,
        "visibility": visibility,
    }


@dataclass
class GitHub(ProviderServer):
    """Serve GitHub's web site and its API at one URL, with one user, who consents at once.

    ``user`` is the response of ``/user``, and ``emails`` that of ``/user/emails``. ``error`` is the
    error code of ``/login/oauth/access_token``, such as ``bad_verification_code``. ``granted``
    replaces the scopes that the client asked for: users can grant less. ``faults`` maps a path to
    a fault of ``provider_server.py``.
    """

    client_id: str = CLIENT_ID
    client_secret: str = CLIENT_SECRET
    user: Any = field(
        default_factory=lambda: {
            "id": 583231,
            "login": "octocat",
            "name": "The Octocat",
            # The public email of the profile. GitHub has it as null by default.
            "email": None,
            "avatar_url": "https://avatars.githubusercontent.com/u/583231?v=4",
        }
    )
    emails: Any = field(default_factory=lambda: [email("octocat@example.test")])
    error: str | None = None
    granted: str | None = None
    grants: dict[str, Mapping[str, str]] = field(default_factory=dict)
    scopes: dict[str, str] = field(default_factory=dict)

    def routes(self) -> dict[str, Handler]:
        return {
            "GET /login/oauth/authorize": self._authorize,
            "POST /login/oauth/access_token": self._access_token,
            "GET /user": self._user,
            "GET /user/emails": self._emails,
        }

    async def _authorize(self, request: web.BaseRequest, form: Document) -> web.Response:
        query = request.query
        if query.get("client_id") != self.client_id:
            return web.Response(status=404)
        code = secrets.token_hex(10)
        self.grants[code] = dict(query)
        # GitHub sends no `iss`.
        response_query = {"code": code, "state": query.get("state", "")}
        location = URL(query["redirect_uri"]).update_query(response_query)
        return web.Response(status=302, headers={hdrs.LOCATION: str(location)})

    async def _access_token(self, request: web.BaseRequest, form: Document) -> web.Response:
        document = self._grant(form)
        if "application/json" in request.headers.get(hdrs.ACCEPT, ""):
            return json_response(document)
        return web.Response(
            body=urlencode(document).encode(), content_type="application/x-www-form-urlencoded"
        )

    def _grant(self, form: Document) -> Document:
        """Return an access token, or an error. GitHub sends both with the status 200."""
        if self.error is not None:
            return {"error": self.error, "error_description": "An error of the test."}
        is_client = (form.get("client_id"), form.get("client_secret")) == (
            self.client_id,
            self.client_secret,
        )
        if not is_client:
            return {"error": "incorrect_client_credentials"}
        # Each code works once.
        query = self.grants.pop(form.get("code", ""), None)
        verifier = form.get("code_verifier", "")
        challenge = base64url(hashlib.sha256(verifier.encode()).digest())
        if query is None or query.get("code_challenge", challenge) != challenge:
            return {"error": "bad_verification_code"}
        if form.get("redirect_uri", query["redirect_uri"]) != query["redirect_uri"]:
            return {"error": "redirect_uri_mismatch"}
        token = f"gho_{secrets.token_hex(18)}"
        scope = query.get("scope", "") if self.granted is None else self.granted
        self.scopes[token] = scope.replace(" ", ",")
        return {"access_token": token, "scope": self.scopes[token], "token_type": "bearer"}

    def _scopes_of(self, request: web.BaseRequest) -> list[str] | None:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        # GitHub accepts both schemes.
        if scheme.lower() not in ("bearer", "token") or token not in self.scopes:
            return None
        return self.scopes[token].split(",")

    async def _user(self, request: web.BaseRequest, form: Document) -> web.Response:
        if self._scopes_of(request) is None:
            return json_response({"message": "Bad credentials"}, 401)
        return json_response(self.user)

    async def _emails(self, request: web.BaseRequest, form: Document) -> web.Response:
        scopes = self._scopes_of(request)
        if scopes is None:
            return json_response({"message": "Bad credentials"}, 401)
        if not {"user", "user:email"} & set(scopes):
            return json_response({"message": "Not Found"}, 404)
        # A page has 30 emails, unless the client asks for up to 100.
        length = min(int(request.query.get("per_page", "30")), 100)
        emails = self.emails[:length] if isinstance(self.emails, list) else self.emails
        return json_response(emails)
