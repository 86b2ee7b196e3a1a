"""Sign in at GitHub: OAuth 2.0 with PKCE. GitHub has no ID token, so its API names the person.

GitHub Docs, "Authorizing OAuth apps", and "REST API endpoints for emails".
"""

from collections.abc import Mapping
from typing import Any

from service.accounts.identity_providers.errors import (
    ClientRejected,
    InvalidResponse,
    UnexpectedStatus,
)
from service.accounts.identity_providers.profile import (
    Profile,
    email,
    is_true,
    names,
    picture,
    subject,
)
from service.accounts.identity_providers.provider import (
    UNKNOWN_CODE,
    AuthorizationRequest,
    Callback,
    Provider,
    code_challenge,
    error_of,
    with_query,
)
from service.accounts.identity_providers.provider_http import ProviderHttp
from service.settings.identity_providers import GITHUB_ISSUER

AUTHORIZATION_URL = "https://github.com/login/oauth/authorize"
TOKEN_URL = "https://github.com/login/oauth/access_token"  # noqa: S105 - no password
API_URL = "https://api.github.com"


class GitHub(Provider):
    """GitHub."""

    name = "github"
    label = "GitHub"
    issuer = GITHUB_ISSUER
    can_reauthenticate = False

    def __init__(
        self, http: ProviderHttp, client_id: str, client_secret: str, callback_url: str
    ) -> None:
        self.callback_url = callback_url
        self._http = http
        self._client_id = client_id
        self._client_secret = client_secret

    async def _authorization_url(self, request: AuthorizationRequest) -> str:
        return with_query(
            AUTHORIZATION_URL,
            {
                "client_id": self._client_id,
                "redirect_uri": self.callback_url,
                "scope": "read:user user:email",
                "state": request.state,
                "code_challenge": code_challenge(request.code_verifier),
                "code_challenge_method": "S256",
            },
        )

    async def probe(self) -> None:
        """Ask for the token of an unknown code."""
        status, body = await self._post_code(UNKNOWN_CODE)
        if status == 404 or error_of(body) == "incorrect_client_credentials":
            raise ClientRejected(f"token: status {status}, {error_of(body)}")

    async def _post_code(self, callback: Callback) -> tuple[int, Any]:
        return await self._http.post_form(
            TOKEN_URL,
            {
                "client_id": self._client_id,
                "client_secret": self._client_secret,
                "code": callback.code,
                "redirect_uri": self.callback_url,
                "code_verifier": callback.code_verifier,
            },
        )

    async def _fetch_profile(self, callback: Callback) -> Profile:
        status, body = await self._post_code(callback)
        # GitHub sends its errors with status 200.
        if not isinstance(body, dict) or not isinstance(body.get("access_token"), str):
            raise InvalidResponse(f"token: status {status}, {error_of(body)}")
        headers = {"Authorization": f"Bearer {body['access_token']}"}
        user = await self._http.get(f"{API_URL}/user", headers)
        if not isinstance(user, dict) or type(user.get("id")) is not int:
            raise InvalidResponse("user: no id")
        primary = _primary(await self._fetch_emails(headers))
        address, is_verified = email(primary.get("email"), primary.get("verified"))
        return Profile(
            GITHUB_ISSUER,
            # A login can be renamed, and then another person can take it. The id stays.
            subject(str(user["id"])),
            address,
            is_verified,
            names((user.get("login"), user.get("name"))),
            picture(user.get("avatar_url")),
            None,
        )

    async def _fetch_emails(self, headers: Mapping[str, str]) -> Any:
        """Return the emails, or ``None`` if the person has not granted the scope for them."""
        try:
            return await self._http.get(f"{API_URL}/user/emails?per_page=100", headers)
        except UnexpectedStatus as error:
            # GitHub sends 404 to an OAuth app without the scope, and 403 to a GitHub App.
            if error.status not in (403, 404):
                raise
            return None


def _primary(emails: Any) -> dict[str, Any]:
    """Return the entry of the primary email. The email of the public profile is not verified."""
    entries = emails if isinstance(emails, list) else []
    for entry in entries:
        if isinstance(entry, dict) and is_true(entry.get("primary")):
            return entry
    return {}
