"""Sign in through a provider as a browser and a front-end do."""

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from yarl import URL

from service.accounts.identity_providers.provider import code_challenge
from service.settings.identity_providers import OidcProvider, oidc_providers
from tests.conftest import Client, Device, Response

FRONT_END = "https://app.example.test/signed-in"


def settings_of(*issuers: Any) -> tuple[OidcProvider, ...]:
    """Return the setting ``OIDC_PROVIDERS`` with the providers ``issuers``."""
    return oidc_providers(json.dumps([issuer.settings for issuer in issuers]))


@dataclass
class FrontEnd:
    """A front-end at ``FRONT_END`` in the browser of ``client``, which keeps the cookies."""

    client: Client
    provider: Any
    """Where the person logs in: it has the method ``consent``."""
    name: str = "issuer"
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    async def begin(self, **query: str) -> URL:
        """Begin a sign-in, and return the URL of the provider."""
        given = {
            "redirect_to": FRONT_END,
            "code_challenge": code_challenge(self.verifier),
            **query,
        }
        response = await self.client.get(
            f"/api/auth/oauth/{self.name}", params=given, allow_redirects=False
        )
        assert response.status == 302, response
        return URL(response.headers["Location"])

    async def call_back(self, url: URL) -> Response:
        """Follow the redirect of the provider to the callback."""
        return await self.client.get(url.raw_path_qs, allow_redirects=False)

    async def authorize(self, **query: str) -> Response:
        """Begin, consent at the provider, and return the response of the callback."""
        return await self.call_back(await self.provider.consent(await self.begin(**query)))

    async def code(self) -> str:
        """Return the code that the front-end gets."""
        return result_of(await self.authorize())["code"]

    async def exchange(self, code: str, **changes: str) -> Response:
        """Exchange a code."""
        body = {"code": code, "code_verifier": self.verifier, **changes}
        return await self.client.post("/api/auth/oauth/exchange", body)

    async def sign_in(self) -> Response:
        """Sign in, and return the response of the exchange."""
        return await self.exchange(await self.code())

    async def start(self, token: str, path: str) -> str:
        """Begin a flow of the session with ``token``, and return the code that it gets."""
        response = await self.client.post(path, {"redirect_to": FRONT_END}, token=token)
        assert response.status == 200, response
        started = URL(response.body["authorization_url"])
        begun = await self.client.get(started.raw_path_qs, allow_redirects=False)
        assert begun.status == 302, begun
        url = await self.provider.consent(URL(begun.headers["Location"]))
        return result_of(await self.call_back(url))["code"]

    async def link(self, token: str) -> Response:
        """Link the identity to the account of ``token``."""
        code = await self.start(token, f"/api/user/identities/{self.name}")
        return await self.client.post("/api/user/identities", {"code": code}, token=token)


def result_of(response: Response) -> dict[str, str]:
    """Return the query with which the front-end is called."""
    assert response.status == 302, response
    url = URL(response.headers["Location"])
    assert str(url.with_query(None)) == FRONT_END
    return dict(url.query)


def device_of(response: Response) -> Device:
    """Return the device of a login."""
    assert response.status == 200, response
    return Device.of(response)
