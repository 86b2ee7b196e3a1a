"""Access tokens that other services can verify: JWTs of RFC 9068, signed with ES256 or EdDSA.

Every process verifies them, whatever ``TOKEN_ALGORITHM`` is, so that a change of it signs out no
user. A signature of HS256 has 43 characters, and these have 86: a token of one kind is never
verified with a key of the other (RFC 8725, section 2.1).
"""

import re
import secrets
import time
from collections.abc import Sequence

import jwt
from asyncpg.pgproto.pgproto import UUID

from service.accounts.sessions.access_tokens import (
    ALGORITHM,
    REQUIRED_CLAIMS,
    AccessToken,
    AccessTokens,
    Claims,
    claims_of,
)
from service.accounts.sessions.signing_keys import KeyRing
from service.http.auth import invalid_token
from service.http.error_codes import ErrorCode
from service.http.errors import Unauthorized
from service.settings.settings import Settings

TYPE = "at+jwt"

# A signature of 64 bytes has 86 characters, and the last one ends in four zero bits.
_SPELLING = re.compile(r"[\w-]+\.[\w-]+\.[\w-]{85}[AQgw]", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class UnknownKey(Unauthorized):
    """401: the token names a key that this process does not know."""

    def __init__(self) -> None:
        super().__init__("token", "is invalid", code=ErrorCode.TOKEN_INVALID)


class VerifyingTokens(AccessTokens):
    """Sign tokens with HS256, and also verify those of ``AsymmetricTokens``."""

    def __init__(self, settings: Settings, secret: str, ring: KeyRing) -> None:
        """``secret`` is the key of HS256. ``ring`` has the other keys."""
        super().__init__(secret, settings.jwt_previous_secrets, settings.access_token_ttl)
        self._ring = ring
        self._issuer = settings.public_url
        self._audience = settings.audience

    def _verify_other(self, token: str) -> Claims:
        """Return the claims of a token that is not signed with HS256.

        Raise ``Unauthorized``, and ``UnknownKey`` if it may be valid with a key that this process
        has not read yet.
        """
        if not _SPELLING.fullmatch(token):
            raise invalid_token()
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            raise invalid_token() from None
        key_id = header.get("kid")
        if header.get("typ") != TYPE or not isinstance(key_id, str):
            raise invalid_token()
        key = self._ring.keys.get(key_id)
        if key is None:
            raise UnknownKey if _KEY_ID.fullmatch(key_id) else invalid_token()
        try:
            claims = jwt.decode(
                token,
                key.public,
                # The key decides, and not the header (RFC 8725, section 3.1).
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": [*REQUIRED_CLAIMS, "iss", "aud"], "verify_iat": False},
            )
            return claims_of(claims)
        except jwt.ExpiredSignatureError:
            raise Unauthorized("token", "has expired", code=ErrorCode.TOKEN_EXPIRED) from None
        except (jwt.InvalidTokenError, ValueError, OverflowError, RecursionError):
            raise invalid_token() from None


class AsymmetricTokens(VerifyingTokens):
    """Sign tokens with the current key of the ring. Tokens of HS256 stay valid."""

    def issue(
        self,
        user_id: UUID,
        session_id: UUID,
        session_expires_at: float,
        roles: Sequence[str] = (),
    ) -> AccessToken:
        """Return a token as ``AccessTokens`` does. Raise ``Unavailable`` without a key.

        It has the claims of RFC 9068, section 2.2. This service has no registered clients, so
        ``client_id`` is the issuer.
        """
        key = self._ring.current()
        assert key.private is not None, "the ring returns only a key that can sign"
        now = int(time.time())
        expires_at = max(now, min(now + self._ttl, int(session_expires_at)))
        claims = {
            "iss": self._issuer,
            "sub": str(user_id),
            "aud": self._audience,
            "client_id": self._issuer,
            "iat": now,
            "exp": expires_at,
            "jti": secrets.token_hex(16),
            "sid": str(session_id),
        }
        if roles:
            claims["roles"] = list(roles)
        headers = {"typ": TYPE, "kid": key.id}
        token = jwt.encode(claims, key.private, key.algorithm, headers=headers)
        return AccessToken(token, expires_at - now)


def create_tokens(settings: Settings, secret: str, ring: KeyRing) -> AccessTokens:
    """Return what signs and verifies the tokens of ``TOKEN_ALGORITHM``."""
    kind = VerifyingTokens if settings.token_algorithm == ALGORITHM else AsymmetricTokens
    return kind(settings, secret, ring)
