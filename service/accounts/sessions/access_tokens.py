"""Access tokens: JWTs (RFC 7519) signed with HS256. ``asymmetric_tokens`` has the other kinds."""

import hmac
import re
import time
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jwt
from asyncpg.pgproto.pgproto import UUID  # In C, and asyncpg's own class: fast to compare.

from service.http.auth import invalid_token
from service.http.error_codes import ErrorCode
from service.http.errors import Unauthorized
from service.http.openapi.schemas import string

ALGORITHM = "HS256"
ACCESS_TOKEN = string(example="eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl")
REQUIRED_CLAIMS = ["sub", "iat", "exp", "sid"]

# Base64 decoders accept padding, foreign characters and stray bits at the end. This pattern rejects
# them, so that each token has exactly one spelling. A signature of 32 bytes has 43 characters, and
# the last one ends in two zero bits.
_SPELLING = re.compile(r"[\w-]+\.[\w-]+\.[\w-]{42}[AEIMQUYcgkosw048]", re.ASCII)

# Every `GET /api/user` signs a token. Signing by hand takes a third of PyJWT's time, and a test
# requires the same bytes as PyJWT's. PyJWT verifies (docs/decisions/signed-tokens.md).
_HEADER = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."  # {"alg":"HS256","typ":"JWT"}
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _base64url(data: bytes) -> bytes:
    """Encode ``data`` for a JWT (RFC 7515, section 2): base64url without padding."""
    return b2a_base64(data, newline=False).translate(_URL_SAFE, b"=")


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a verified token. ``expires_at`` is in seconds since 1970."""

    user_id: UUID
    session_id: UUID
    expires_at: int


def claims_of(claims: Mapping[str, Any]) -> Claims:
    """Return the claims that the service uses. Raise ``ValueError`` and ``OverflowError``."""
    return Claims(UUID(claims["sub"]), UUID(str(claims["sid"])), int(claims["exp"]))


class AccessToken(NamedTuple):
    """A new token, valid for ``expires_in`` seconds."""

    token: str
    expires_in: int


class AccessTokens:
    """Sign tokens with one secret and accept several.

    So tokens that were signed with the previous secret stay valid when the secret is replaced.
    """

    def __init__(self, secret: str, previous_secrets: tuple[str, ...], ttl: int) -> None:
        """Sign with ``secret``, and also accept ``previous_secrets``.

        ``ttl`` is the lifetime of a token in seconds.
        """
        self._mac = hmac.new(secret.encode(), digestmod="sha256")
        self._accepted_secrets = (secret, *previous_secrets)
        self._ttl = ttl

    def issue(
        self,
        user_id: UUID,
        session_id: UUID,
        session_expires_at: float,
        roles: Sequence[str] = (),
    ) -> AccessToken:
        """Return a token for this session, valid from now and never longer than the session.

        ``session_expires_at`` is the expiry of the session's refresh token, in seconds since 1970.
        Renewing an access token does not extend the session (RFC 9700, section 4.14.2). ``roles``
        are the roles of the user as of now. Other services read them, and this service does not.
        """
        now = int(time.time())
        expires_at = max(now, min(now + self._ttl, int(session_expires_at)))
        claims = f'{{"sub":"{user_id}","iat":{now},"exp":{expires_at},"sid":"{session_id}"}}'
        if roles:  # Their names need no escaping: see `users_roles_check`.
            claims = claims[:-1] + ',"roles":["' + '","'.join(roles) + '"]}'
        signed = _HEADER + _base64url(claims.encode())
        mac = self._mac.copy()  # Copies the hashed key.
        mac.update(signed)
        signature = _base64url(mac.digest())
        return AccessToken((signed + b"." + signature).decode(), expires_at - now)

    def verify(self, token: str) -> Claims:
        """Return the claims of ``token``. Raise ``Unauthorized`` if it is invalid or expired."""
        if not _SPELLING.fullmatch(token):
            return self._verify_other(token)
        for secret in self._accepted_secrets:
            try:
                claims = jwt.decode(
                    token,
                    secret,
                    # Reject `none` and every other algorithm (RFC 8725, section 3.1).
                    algorithms=[ALGORITHM],
                    # `iat` is not checked: the clock of another machine may be ahead.
                    options={"require": REQUIRED_CLAIMS, "verify_iat": False},
                )
                return claims_of(claims)
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError:
                raise Unauthorized("token", "has expired", code=ErrorCode.TOKEN_EXPIRED) from None
            except (jwt.InvalidTokenError, ValueError, OverflowError, RecursionError):
                break
        raise invalid_token()

    def _verify_other(self, token: str) -> Claims:
        """Return the claims of a token that is not signed with HS256. Raise ``Unauthorized``."""
        raise invalid_token()
