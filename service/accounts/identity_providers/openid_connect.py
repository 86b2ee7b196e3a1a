"""Sign in at an OpenID provider: OpenID Connect Core, the authorization code flow with PKCE."""

from base64 import b64encode
from typing import Any
from urllib.parse import quote_plus

from service.accounts.identity_providers.discovery import Discovery, Endpoints
from service.accounts.identity_providers.errors import ClientRejected, InvalidResponse
from service.accounts.identity_providers.id_tokens import read_header, verify_id_token
from service.accounts.identity_providers.profile import Profile, openid_profile
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
from service.settings.identity_providers import GOOGLE_ISSUER, OidcProvider


class OpenIdProvider(Provider):
    """An OpenID provider, as its issuer's discovery document describes it."""

    def __init__(self, http: ProviderHttp, client: OidcProvider, callback_url: str) -> None:
        self.name = client.name
        self.label = client.label
        self.issuer = client.issuer
        # Google neither offers prompt=login nor says when it verified a person.
        self.can_reauthenticate = client.issuer != GOOGLE_ISSUER
        self.callback_url = callback_url
        self._http = http
        self._client = client
        self._discovery = Discovery(http, client.issuer)

    async def _authorization_url(self, request: AuthorizationRequest) -> str:
        endpoints = await self._discovery.endpoints()
        parameters = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self.callback_url,
            "scope": "openid email profile",
            "state": request.state,
            "nonce": request.nonce,
            "code_challenge": code_challenge(request.code_verifier),
            "code_challenge_method": "S256",
        }
        if request.is_reauthentication:
            # Some providers know only one of the two. The claim `auth_time` is checked.
            parameters |= {"prompt": "login", "max_age": "0"}
        return with_query(endpoints.authorization, parameters)

    async def _fetch_profile(self, callback: Callback) -> Profile:
        endpoints = await self._discovery.endpoints()
        # RFC 9207, section 2.4: a code of another issuer is sent to no token endpoint.
        if callback.issuer is None and endpoints.sends_issuer:
            raise InvalidResponse("callback: no issuer")
        if callback.issuer not in (None, self.issuer):
            raise InvalidResponse("callback: another issuer")
        tokens = await self._fetch_tokens(endpoints, callback)
        header = read_header(tokens["id_token"], self._client.algorithms)
        claims = verify_id_token(
            tokens["id_token"],
            await self._discovery.key(header.get("kid"), header["alg"]),
            algorithm=header["alg"],
            issuer=self.issuer,
            client_id=self._client.client_id,
            nonce=callback.nonce,
            access_token=tokens["access_token"],
        )
        userinfo: dict[str, Any] = {}
        if "email" not in claims and endpoints.userinfo is not None:
            userinfo = await self._fetch_userinfo(endpoints.userinfo, tokens["access_token"])
            # OpenID Connect Core, section 5.3.4: a response about another person is not used.
            if userinfo.get("sub") != claims["sub"]:
                raise InvalidResponse("userinfo: another subject")
        return openid_profile(self.issuer, claims, userinfo)

    async def probe(self) -> None:
        """Fetch the documents of the provider, and ask for the tokens of an unknown code."""
        endpoints = await self._discovery.endpoints()
        await self._discovery.fetch_keys()
        status, body = await self._post_code(endpoints, UNKNOWN_CODE)
        # RFC 6749, section 5.2.
        if status == 401 or error_of(body) in ("invalid_client", "unauthorized_client"):
            raise ClientRejected(f"token: status {status}, {error_of(body)}")

    async def _post_code(self, endpoints: Endpoints, callback: Callback) -> tuple[int, Any]:
        client, headers = self._client, {}
        form = {
            "grant_type": "authorization_code",
            "code": callback.code,
            "redirect_uri": self.callback_url,
            "code_verifier": callback.code_verifier,
        }
        if endpoints.takes_basic:
            # RFC 6749, section 2.3.1.
            pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": client.client_id, "client_secret": client.client_secret}
        return await self._http.post_form(endpoints.token, form, headers)

    async def _fetch_tokens(self, endpoints: Endpoints, callback: Callback) -> dict[str, str]:
        status, body = await self._post_code(endpoints, callback)
        if status != 200 or not isinstance(body, dict):
            raise InvalidResponse(f"token: status {status}, {error_of(body)}")
        tokens = {name: body.get(name) for name in ("id_token", "access_token")}
        if not all(isinstance(token, str) for token in tokens.values()):
            raise InvalidResponse("token: a token is missing")
        return {name: str(token) for name, token in tokens.items()}

    async def _fetch_userinfo(self, url: str, access_token: str) -> dict[str, Any]:
        # aiohttp refuses to send a header with control characters.
        headers = {"Authorization": f"Bearer {access_token}"}
        body = await self._http.get(url, headers)
        if not isinstance(body, dict):
            raise InvalidResponse("userinfo: not an object")
        return body
