"""ID tokens, signed in the correct way and in each wrong way.

PyJWT refuses to make most of the wrong ones, so this module builds every token by hand.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

RSAKey = rsa.RSAPrivateKey
Document = dict[str, Any]


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def rsa_key(name: str, bits: int = 2048) -> RSAKey:
    """Return the RSA key ``name`` of this test run. A new key takes 100 ms."""
    # The parameters only distinguish the keys in the cache.
    return rsa.generate_private_key(65537, bits)


def jwk_of(key: RSAKey, **members: Any) -> Document:
    """Return the public key as a JWK (RFC 7517) with ``members``, such as ``kid``."""
    numbers = key.public_key().public_numbers()

    def encode(value: int) -> str:
        return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))

    return {"kty": "RSA", "n": encode(numbers.n), "e": encode(numbers.e), **members}


def pem_of(key: RSAKey) -> bytes:
    """Return the public key as PEM, which an attacker can compute from the JWKS."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signing_input(header: Document, claims: Document) -> str:
    # `json` writes infinity, NaN and lone surrogates. orjson refuses them.
    return ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))


Sign = Callable[[RSAKey, Document, Document], str]
"""Return the ID token of a key of the provider, a JOSE header and claims."""


def sign(key: RSAKey, header: Document, claims: Document) -> str:
    """Sign with RS256 and the key of the provider: the correct way."""
    data = signing_input(header, claims)
    return f"{data}.{base64url(key.sign(data.encode(), padding.PKCS1v15(), SHA256()))}"


def sign_with(other: RSAKey) -> Sign:
    """Sign with another key, and keep the ``kid`` of the provider's key."""
    return lambda key, header, claims: sign(other, header, claims)


def sign_with_embedded_key(key: RSAKey, header: Document, claims: Document) -> str:
    """Sign with an attacker's key, and put its public part into ``jwk`` of the header."""
    attacker = rsa_key("attacker")
    kid = header.get("kid")
    return sign(attacker, {**header, "jwk": jwk_of(attacker, kid=kid)}, claims)


def unsigned(key: RSAKey, header: Document, claims: Document) -> str:
    """Use ``alg`` none and an empty signature (RFC 7518, section 3.6)."""
    return f"{signing_input({**header, 'alg': 'none'}, claims)}."


def unsigned_mixed_case(key: RSAKey, header: Document, claims: Document) -> str:
    """Use ``alg`` nOnE, which a comparison with ``none`` misses."""
    return f"{signing_input({**header, 'alg': 'nOnE'}, claims)}."


def without_signature(key: RSAKey, header: Document, claims: Document) -> str:
    """Use ``alg`` RS256 and an empty signature."""
    return f"{signing_input(header, claims)}."


def with_changed_claims(key: RSAKey, header: Document, claims: Document) -> str:
    """Change ``sub`` after the signature."""
    signature = sign(key, header, claims).rpartition(".")[2]
    return f"{signing_input(header, {**claims, 'sub': 'victim'})}.{signature}"


def hs256(secret: bytes) -> Sign:
    """Use HS256 with ``secret``, such as the client secret."""

    def sign_hs256(key: RSAKey, header: Document, claims: Document) -> str:
        data = signing_input({**header, "alg": "HS256"}, claims)
        return f"{data}.{base64url(hmac.digest(secret, data.encode(), hashlib.sha256))}"

    return sign_hs256


def hs256_with_public_key(key: RSAKey, header: Document, claims: Document) -> str:
    """Use HS256 with the PEM of the public key as the secret (RFC 8725, section 2.1)."""
    return hs256(pem_of(key))(key, header, claims)
