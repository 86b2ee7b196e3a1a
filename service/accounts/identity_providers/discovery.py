"""The endpoints and keys of an OpenID provider: fetched at need, and kept."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
from jwt.api_jwk import PyJWK

from service.accounts.identity_providers.errors import InvalidResponse
from service.accounts.identity_providers.provider_http import ProviderHttp
from service.settings.identity_providers import is_secure_url

MAX_KEYS = 100
MAX_AGE = 3600.0  # Seconds for which a withdrawn key stays trusted.
_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC"}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What the discovery document of a provider says (OpenID Connect Discovery, section 3)."""

    authorization: str
    token: str
    userinfo: str | None
    jwks: str
    takes_basic: bool
    """Whether the client authenticates by HTTP Basic, which is the default."""
    sends_issuer: bool
    """Whether each callback names the issuer (RFC 9207, section 3)."""


class Discovery:
    """Fetch the discovery document and the keys of ``issuer``.

    Nothing is fetched before the first sign-in, so that a provider that is down delays no start.
    Both are fetched again after ``MAX_AGE``. A failure is not kept. Simultaneous sign-ins share one
    request.
    """

    def __init__(self, http: ProviderHttp, issuer: str) -> None:
        self._http = http
        self._issuer = issuer
        self._endpoints: Endpoints | None = None
        self._endpoints_fetched_at = 0.0
        self._keys: dict[str | None, list[PyJWK]] | None = None
        self._keys_fetched_at = 0.0
        self._lock = asyncio.Lock()

    async def endpoints(self) -> Endpoints:
        """Return the endpoints. Raise ``InvalidResponse`` and ``NoResponse``."""
        async with self._lock:
            if self._endpoints is None or _is_old(self._endpoints_fetched_at):
                url = f"{self._issuer.removesuffix('/')}/.well-known/openid-configuration"
                self._endpoints = _read_document(await self._http.get(url), self._issuer)
                self._endpoints_fetched_at = time.monotonic()
            return self._endpoints

    async def fetch_keys(self) -> None:
        """Fetch the keys, and keep them. Raise ``InvalidResponse`` and ``NoResponse``."""
        self._keys = _read_keys(await self._http.get((await self.endpoints()).jwks))
        self._keys_fetched_at = time.monotonic()

    async def key(self, key_id: object, algorithm: str) -> Any:
        """Return the public key that signs with ``algorithm`` and has the id ``key_id``.

        Without an id there must be only one such key. Fetch the keys once again if there is none:
        the provider may have replaced them. Raise ``InvalidResponse`` and ``NoResponse``.
        """
        endpoints = await self.endpoints()
        known = None if _is_old(self._keys_fetched_at) else self._keys
        if known is not None and (found := _find(known, key_id, algorithm)):
            return found.key
        fetched_at = self._keys_fetched_at
        async with self._lock:
            # Another sign-in may have fetched them meanwhile.
            if self._keys_fetched_at == fetched_at:
                self._keys = _read_keys(await self._http.get(endpoints.jwks))
                self._keys_fetched_at = time.monotonic()
            assert self._keys is not None, "the keys were fetched"
        found = _find(self._keys, key_id, algorithm)
        if found is None:
            raise InvalidResponse("ID token: the provider has no such key")
        return found.key


def _is_old(fetched_at: float) -> bool:
    return time.monotonic() - fetched_at > MAX_AGE


def _read_document(document: Any, issuer: str) -> Endpoints:
    """Return the endpoints in a discovery document. Raise ``InvalidResponse``."""
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise InvalidResponse("discovery: another issuer")

    def url(key: str) -> str:
        found = document.get(key)
        if not is_secure_url(found):
            raise InvalidResponse(f"discovery: no {key}")
        # Only an issuer on this machine may send requests to other services on it.
        if urlsplit(str(found)).scheme != "https" and urlsplit(issuer).scheme == "https":
            raise InvalidResponse(f"discovery: {key} without https")
        return str(found)

    methods = document.get("token_endpoint_auth_methods_supported")
    return Endpoints(
        url("authorization_endpoint"),
        url("token_endpoint"),
        url("userinfo_endpoint") if "userinfo_endpoint" in document else None,
        url("jwks_uri"),
        not isinstance(methods, list) or "client_secret_basic" in methods,
        document.get("authorization_response_iss_parameter_supported") is True,
    )


def _read_keys(document: Any) -> dict[str | None, list[PyJWK]]:
    """Return the keys for signatures by their ids.

    Leave out unusable keys: a provider may add keys of a new kind (RFC 7517, section 5). Raise
    ``InvalidResponse`` if none is usable.
    """
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise InvalidResponse("the key set is malformed")
    usable = [
        key
        for key in keys
        if isinstance(key, dict)
        and isinstance(key.get("kid"), str | None)
        and key.get("kty") != "oct"
        and key.get("use", "sig") == "sig"
    ]
    found: dict[str | None, list[PyJWK]] = {}
    for key in usable:
        try:
            parsed = PyJWK(key)
        # PyJWT raises NotImplementedError for a key of the algorithm `none`.
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, NotImplementedError):
            continue
        found.setdefault(parsed.key_id, []).append(parsed)
    if not found:
        raise InvalidResponse("the key set has no usable key")
    return found


def _find(keys: dict[str | None, list[PyJWK]], key_id: object, algorithm: str) -> PyJWK | None:
    """Return the only key with the id, or the only key at all for a token without an id."""
    if key_id is None:
        candidates = [key for group in keys.values() for key in group]
    else:
        candidates = keys.get(key_id, []) if isinstance(key_id, str) else []
    fitting = [key for key in candidates if _signs_with(key, algorithm)]
    return fitting[0] if len(fitting) == 1 else None


def _signs_with(key: PyJWK, algorithm: str) -> bool:
    """Return whether ``key`` is of the type of ``algorithm``, and is not for another one."""
    key_type = "OKP" if algorithm == "EdDSA" else _KEY_TYPES[algorithm[:2]]
    is_for_other = key._jwk_data.get("alg", algorithm) != algorithm
    return key.key_type == key_type and not is_for_other
