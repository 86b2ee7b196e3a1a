"""What every kind of identity provider has in common."""

import asyncio
import hashlib
import logging
from abc import ABC, abstractmethod
from base64 import urlsafe_b64encode
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from service.accounts.identity_providers.errors import (
    InvalidResponse,
    NoResponse,
    ProviderResponseInvalid,
    ProviderUnavailable,
)
from service.accounts.identity_providers.profile import Profile
from service.accounts.identity_providers.provider_http import TIMEOUT

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
MAX_REASON = 200  # Characters of a reason in the log.


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What the service sends along with a person, and checks when they return."""

    state: str
    nonce: str
    code_verifier: str
    """The secret of PKCE (RFC 7636). Only its digest is sent."""
    is_reauthentication: bool
    """Whether the provider must verify the person again, even if they are logged in there."""


@dataclass(frozen=True, slots=True)
class Callback:
    """The parameters of a successful callback that the provider has to check."""

    code: str
    issuer: str | None
    """The parameter ``iss`` (RFC 9207)."""
    nonce: str
    code_verifier: str


UNKNOWN_CODE = Callback(code="unknown", issuer=None, nonce="", code_verifier="unknown" * 7)
"""A code that no provider has issued. The verifier has the length that RFC 7636 demands."""


class Provider(ABC):
    """An identity provider."""

    name: str
    label: str
    issuer: str
    """The first half of each identity."""
    can_reauthenticate: bool
    """Whether it can verify a person again, and says when it did."""
    callback_url: str

    @abstractmethod
    async def _authorization_url(self, request: AuthorizationRequest) -> str: ...

    @abstractmethod
    async def _fetch_profile(self, callback: Callback) -> Profile: ...

    @abstractmethod
    async def probe(self) -> None:
        """Ask for the tokens of a code that the provider did not issue.

        That shows whether it responds and accepts this client. Raise ``ClientRejected``, another
        ``InvalidResponse``, and ``NoResponse``.
        """

    async def authorization_url(self, request: AuthorizationRequest) -> str:
        """Return the URL of the provider to which the browser is redirected.

        Raise ``ProviderUnavailable`` and ``ProviderResponseInvalid``.
        """
        return await self._ask(self._authorization_url(request))

    async def fetch_profile(self, callback: Callback) -> Profile:
        """Exchange the code of a callback at the provider, and return the verified profile.

        Raise ``ProviderUnavailable`` and ``ProviderResponseInvalid``.
        """
        return await self._ask(self._fetch_profile(callback))

    async def _ask(self, conversation: Awaitable[_Result]) -> _Result:
        """Await a conversation with the provider, and log its failure for the operator."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await conversation
        except (NoResponse, TimeoutError) as error:
            self._log(str(error) or "too slow")
            raise ProviderUnavailable from None
        except InvalidResponse as error:
            self._log(str(error))
            raise ProviderResponseInvalid from None

    def _log(self, reason: str) -> None:
        logger.warning("identity provider failed: provider=%s error=%s", self.name, reason)


def code_challenge(code_verifier: str) -> str:
    """Return the challenge of PKCE with the method S256 (RFC 7636, section 4.2)."""
    digest = hashlib.sha256(code_verifier.encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def with_query(url: str, parameters: dict[str, str]) -> str:
    """Return ``url`` with more query parameters."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"


def error_of(body: object) -> str:
    """Return the ``error`` in the body of a token response, for the log.

    The text is the provider's: keep it short and printable.
    """
    error = body.get("error") if isinstance(body, dict) else None
    return "".join(filter(str.isprintable, str(error)))[:MAX_REASON]
