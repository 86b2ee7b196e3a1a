"""The identity providers that are set up."""

from collections.abc import Iterator, Mapping

from aiohttp import web

from service.accounts.identity_providers.github import GitHub
from service.accounts.identity_providers.openid_connect import OpenIdProvider
from service.accounts.identity_providers.provider import Provider
from service.accounts.identity_providers.provider_http import ProviderHttp
from service.http.errors import NotFound
from service.settings.identity_providers import GOOGLE_ISSUER, OidcProvider
from service.settings.settings import Settings


class Providers:
    """The providers by name. A provider that was removed from the settings signs in no person."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self.issuers = [provider.issuer for provider in providers.values()]
        """The issuers whose identities are a way to sign in."""
        self.reauthentication_issuers = [
            provider.issuer for provider in providers.values() if provider.can_reauthenticate
        ]
        """The issuers whose identities can prove again who a person is."""
        self.names = {provider.issuer: name for name, provider in providers.items()}
        """The name of each provider by its issuer."""

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._providers.values())

    def get(self, name: str) -> Provider:
        """Return the provider ``name``. Raise ``NotFound`` if it is not set up."""
        provider = self._providers.get(name)
        if provider is None:
            raise NotFound("provider")
        return provider

    def find(self, issuer: str) -> Provider | None:
        """Return the provider with ``issuer``, or ``None`` if it is not set up."""
        name = self.names.get(issuer)
        return None if name is None else self.get(name)

    def label_of(self, issuer: str) -> str:
        """Return the name for people of the provider with ``issuer``."""
        provider = self.find(issuer)
        # The settings had the issuer when the identity was linked: no stranger chose it.
        return issuer if provider is None else provider.label


def create_providers(settings: Settings, http: ProviderHttp) -> Providers:
    """Return the providers of ``settings``."""
    urls = settings.callback_urls
    clients = list(settings.oidc_providers)
    if settings.google_client_id is not None:
        secret = settings.google_client_secret or ""
        clients.append(
            OidcProvider("google", GOOGLE_ISSUER, settings.google_client_id, secret, "Google")
        )
    found: dict[str, Provider] = {
        client.name: OpenIdProvider(http, client, urls[client.name]) for client in clients
    }
    if settings.github_client_id is not None:
        secret = settings.github_client_secret or ""
        found["github"] = GitHub(http, settings.github_client_id, secret, urls["github"])
    return Providers(found)


PROVIDER_HTTP = web.AppKey("provider_http", ProviderHttp)
PROVIDERS = web.AppKey("providers", Providers)
