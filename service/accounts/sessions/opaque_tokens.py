"""Opaque random tokens, stored only as digests.

256 random bits cannot be guessed, so a plain SHA-256 digest is enough. Slow hashes are for
passwords, which can be guessed. The OWASP Session Management Cheat Sheet requires at least 64 bits
of entropy.
"""

import hashlib
import secrets
from dataclasses import dataclass, field

TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class OpaqueToken:
    """A new token: ``plain`` (base64url) is only for its holder, ``digest`` for the database."""

    plain: str = field(repr=False)
    digest: bytes


def new_token() -> OpaqueToken:
    """Return a new token of 256 bits from the system's random source."""
    plain = secrets.token_urlsafe(TOKEN_BYTES)
    return OpaqueToken(plain, digest_of(plain))


def digest_of(plain: str) -> bytes:
    """Return the SHA-256 digest (32 bytes) that finds a presented token in the database."""
    return hashlib.sha256(plain.encode()).digest()
