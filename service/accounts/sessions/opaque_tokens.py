"""Random tokens that mean nothing by themselves and are kept only as digests.

256 random bits cannot be guessed, so a plain SHA-256 is enough: the slow hashes are for passwords,
which can (OWASP Session Management Cheat Sheet asks for 64 bits of entropy at least).
"""

import hashlib
import secrets
from dataclasses import dataclass, field

TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class OpaqueToken:
    """A new token: ``plain`` (base64url) is for its holder alone, ``digest`` for the database."""

    plain: str = field(repr=False)
    digest: bytes


def new_token() -> OpaqueToken:
    """A token of 256 bits from the system's random source."""
    plain = secrets.token_urlsafe(TOKEN_BYTES)
    return OpaqueToken(plain, digest_of(plain))


def digest_of(plain: str) -> bytes:
    """The SHA-256 digest, 32 bytes, by which a shown token is looked up."""
    return hashlib.sha256(plain.encode()).digest()
