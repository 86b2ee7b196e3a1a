"""The relying party of WebAuthn: the domain of the passkeys, and the origins of its pages."""

from aiohttp import web

from service.settings.origins import host_of, is_within, origin_of
from service.settings.settings import Settings


class RelyingParty:
    """The domain to which passkeys are bound, and the pages that may use them.

    ``id`` is the RP ID: a browser uses a passkey only on pages of this domain and of the domains
    below it. The service also checks the origin of the page, which must be that of ``FRONTEND_URL``
    or ``BASE_URL``, or one of ``CORS_ORIGINS``. Without this check, a page on any subdomain could
    log in with the passkeys of its visitors.
    """

    def __init__(self, settings: Settings) -> None:
        self.id = settings.relying_party_id
        urls = (settings.frontend_url, settings.public_url, *settings.cors_origins)
        self._accepts_all = "*" in settings.cors_origins
        self._origins = {origin_of(url) for url in urls if url is not None and url != "*"}

    def accepts(self, origin: object) -> bool:
        """Return whether a page of ``origin``, as its browser reports it, may use the passkeys."""
        if not isinstance(origin, str) or not is_within(host_of(origin), self.id):
            return False
        return self._accepts_all or origin in self._origins


RELYING_PARTY = web.AppKey("relying_party", RelyingParty)
