"""Access tokens: JWTs (RFC 7519) signed with HS256, told apart from everything else."""

import hmac
import re
import time
from binascii import b2a_base64
from dataclasses import dataclass

import jwt
from asyncpg.pgproto.pgproto import UUID  # In C, and the same class as in rows: quick to compare.

from service.http.auth import invalid_token
from service.http.errors import Unauthorized
from service.http.openapi.schemas import string

ALGORITHM = "HS256"
ACCESS_TOKEN = string(example="eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl")
REQUIRED_CLAIMS = ["sub", "iat", "exp", "sid"]

# Base64 decoders forgive padding, foreign letters and stray bits at the end; we don't, so that a
# token has one spelling. 32 bytes of signature are 43 letters, the last of which ends in two zeros.
_SPELLING = re.compile(r"[\w-]+\.[\w-]+\.[\w-]{42}[AEIMQUYcgkosw048]", re.ASCII)

# Signing is on the path of every `GET /api/user`: by hand it takes a sixth of PyJWT's time, and a
# test holds it to PyJWT's bytes. Verifying stays PyJWT's.
_HEADER = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."  # {"alg":"HS256","typ":"JWT"}
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _base64url(data: bytes) -> bytes:
    """Base64 as JWTs have it (RFC 7515, section 2): of the URL's alphabet, without padding."""
    return b2a_base64(data, newline=False).translate(_URL_SAFE, b"=")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says; ``expires_at`` is in seconds since 1970."""

    user_id: UUID
    session_id: UUID
    expires_at: int


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A new token; ``expires_in`` is how many seconds it is valid."""

    token: str
    expires_in: int


class AccessTokens:
    """Signs with one secret and believes several, so that the secret can be changed in peace."""

    def __init__(self, secret: str, previous_secrets: tuple[str, ...], ttl: int) -> None:
        """``ttl`` is how many seconds a token is valid."""
        self._key = secret.encode()
        self._believed = (secret, *previous_secrets)
        self._ttl = ttl
        # Time stamps in tokens are whole seconds: within one a session's token stays the same, to
        # the letter, and is signed once.
        self._second = 0
        self._issued: dict[tuple[UUID, float], AccessToken] = {}

    def issue(self, user_id: UUID, session_id: UUID, session_expires_at: float) -> AccessToken:
        """A token for this user's session, valid from now and never longer than the session.

        ``session_expires_at`` is in seconds since 1970: the expiry of the session's refresh token.
        A token that renews itself does not extend the session (RFC 9700, section 4.14.2).
        """
        now, session = int(time.time()), (session_id, session_expires_at)
        if now != self._second:
            self._second, self._issued = now, {}
        elif (issued := self._issued.get(session)) is not None:
            return issued
        expires_at = max(now, min(now + self._ttl, int(session_expires_at)))
        claims = f'{{"sub":"{user_id}","iat":{now},"exp":{expires_at},"sid":"{session_id}"}}'
        signed = _HEADER + _base64url(claims.encode())
        signature = _base64url(hmac.digest(self._key, signed, "sha256"))
        token = AccessToken((signed + b"." + signature).decode(), expires_at - now)
        self._issued[session] = token
        return token

    def verify(self, token: str) -> Claims:
        """The claims of ``token``. Raises ``Unauthorized`` when it is invalid or has expired."""
        if not _SPELLING.fullmatch(token):
            raise invalid_token()
        for secret in self._believed:
            try:
                claims = jwt.decode(
                    token,
                    secret,
                    # The list is what keeps `none` and every other algorithm out (RFC 8725, 3.1).
                    algorithms=[ALGORITHM],
                    # Another machine's clock may be ahead of ours: `iat` is not held against it.
                    options={"require": REQUIRED_CLAIMS, "verify_iat": False},
                )
                session_id = UUID(str(claims["sid"]))
                return Claims(UUID(claims["sub"]), session_id, int(claims["exp"]))
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError:
                raise Unauthorized("token", "has expired", code="token_expired") from None
            except (jwt.InvalidTokenError, ValueError, OverflowError, RecursionError):
                break
        raise invalid_token()
