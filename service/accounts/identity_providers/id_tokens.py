"""Verify ID tokens: OpenID Connect Core, section 3.1.3.7."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import jwt

from service.accounts.identity_providers.errors import InvalidResponse

LEEWAY = 60  # Seconds by which the clock of a provider may differ.
MAX_TOKEN = 65_536  # Characters.
_MALFORMED = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


def read_header(token: object, algorithms: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the header of an ID token that is not verified yet.

    Raise ``InvalidResponse`` if the token is malformed, or if its algorithm is none of
    ``algorithms``.
    """
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        raise InvalidResponse("there is no ID token")
    try:
        header = jwt.get_unverified_header(token)
    except _MALFORMED as error:
        raise InvalidResponse(f"ID token: {type(error).__name__}") from None
    if header.get("alg") not in algorithms:
        raise InvalidResponse("ID token: another algorithm")
    return header


def verify_id_token(
    token: str,
    key: Any,
    *,
    algorithm: str,
    issuer: str,
    client_id: str,
    nonce: str,
    access_token: str,
) -> dict[str, Any]:
    """Return the claims of an ID token.

    ``key`` is the public key of the provider that the header names. ``algorithm`` is one that the
    provider is pinned to. ``access_token`` came with the token. Raise ``InvalidResponse``.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=client_id,
            leeway=LEEWAY,
            options={
                "require": ["iss", "sub", "aud", "exp", "iat"],
                "enforce_minimum_key_length": True,
            },
        )
    except _MALFORMED as error:
        raise InvalidResponse(f"ID token: {type(error).__name__}") from None
    if claims.get("nonce") != nonce:
        raise InvalidResponse("ID token: another nonce")
    audience = claims["aud"]
    party = claims.get("azp", client_id if audience in (client_id, [client_id]) else None)
    if party != client_id:
        raise InvalidResponse("ID token: another authorized party")
    if "at_hash" in claims and claims["at_hash"] != _at_hash(access_token, algorithm):
        raise InvalidResponse("ID token: another access token")
    return claims


def _at_hash(access_token: str, algorithm: str) -> str:
    """Return the left half of the hash of an access token, in base64url (section 3.1.3.6)."""
    # Ed25519 hashes with SHA-512.
    digest = _HASHES.get(algorithm[-3:], hashlib.sha512)(access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
