"""An authenticator and its browser in software, which can also forge every part of a response."""

import hashlib
import json
import secrets
import struct
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from service.accounts.passkeys.credentials import decode, encode

USER_PRESENT, USER_VERIFIED = 0x01, 0x04
BACKUP_ELIGIBLE, BACKED_UP = 0x08, 0x10
ATTESTED, EXTENSIONS = 0x40, 0x80
VERIFIED = USER_PRESENT | USER_VERIFIED
ORIGIN = "http://localhost:3000"
NO_AAGUID = bytes(16)

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def new_key(algorithm: int = -7) -> PrivateKey:
    """Return a key for ES256 (-7), EdDSA (-8) or RS256 (-257)."""
    if algorithm == -7:
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == -8:
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


def cose_key(key: PrivateKey) -> dict[int, Any]:
    """Return the public key in COSE form (RFC 9053)."""
    public = key.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        return {
            1: 2,
            3: -7,
            -1: 1,
            -2: point.x.to_bytes(32, "big"),
            -3: point.y.to_bytes(32, "big"),
        }
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {1: 1, 3: -8, -1: 6, -2: public.public_bytes_raw()}
    numbers = public.public_numbers()
    return {1: 3, 3: -257, -1: integer(numbers.n), -2: integer(numbers.e)}


def sign(key: PrivateKey, data: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(SHA256()))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, padding.PKCS1v15(), SHA256())


@dataclass
class Authenticator:
    """One passkey. Without a counter, it reports 0 for ever, as synchronized passkeys do.

    The arguments of ``create`` and ``get`` replace parts of the response.
    """

    algorithm: int = -7
    counter: int = 0
    has_counter: bool = True
    origin: str = ORIGIN
    aaguid: bytes = NO_AAGUID
    id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    user_handle: bytes | None = None

    def __post_init__(self) -> None:
        self.key = new_key(self.algorithm)

    def client_data(self, kind: str, options: dict[str, Any], **changes: Any) -> bytes:
        """Return the client data that the browser adds."""
        data = {
            "type": f"webauthn.{kind}",
            "challenge": options["challenge"],
            "origin": self.origin,
            "crossOrigin": False,
        }
        kept = {name: value for name, value in {**data, **changes}.items() if value is not ...}
        return json.dumps(kept).encode()

    def authenticator_data(
        self, rp_id: str, flags: int, *, public_key: Any = None, tail: bytes = b""
    ) -> bytes:
        """Return authenticator data (WebAuthn Level 3, section 6.1)."""
        if self.has_counter:
            self.counter += 1
        head = hashlib.sha256(rp_id.encode()).digest() + struct.pack(">BI", flags, self.counter)
        if flags & ATTESTED:
            key = cose_key(self.key) if public_key is None else public_key
            encoded = key if isinstance(key, bytes) else cbor2.dumps(key)
            head += self.aaguid + struct.pack(">H", len(self.id)) + self.id + encoded
        return head + tail

    def create(
        self,
        options: dict[str, Any],
        *,
        flags: int = VERIFIED | ATTESTED,
        rp_id: str | None = None,
        public_key: Any = None,
        tail: bytes = b"",
        attestation: Any = None,
        **client_data: Any,
    ) -> dict[str, Any]:
        """Return the response to ``navigator.credentials.create()``, as ``toJSON()`` writes it."""
        self.user_handle = decode(options["user"]["id"])
        data = self.authenticator_data(
            rp_id or options["rp"]["id"], flags, public_key=public_key, tail=tail
        )
        if attestation is None:
            attestation = {"fmt": "none", "attStmt": {}, "authData": data}
        is_encoded = isinstance(attestation, bytes)
        return self._credential(
            clientDataJSON=encode(self.client_data("create", options, **client_data)),
            attestationObject=encode(attestation if is_encoded else cbor2.dumps(attestation)),
            transports=["internal", "hybrid"],
        )

    def get(
        self,
        options: dict[str, Any],
        *,
        flags: int = VERIFIED,
        rp_id: str | None = None,
        user_handle: Any = ...,
        signature: bytes | None = None,
        tail: bytes = b"",
        **client_data: Any,
    ) -> dict[str, Any]:
        """Return the response to ``navigator.credentials.get()``, as ``toJSON()`` writes it."""
        data = self.authenticator_data(rp_id or options["rpId"], flags, tail=tail)
        client = self.client_data("get", options, **client_data)
        signed = sign(self.key, data + hashlib.sha256(client).digest())
        handle = self.user_handle if user_handle is ... else user_handle
        return self._credential(
            clientDataJSON=encode(client),
            authenticatorData=encode(data),
            signature=encode(signed if signature is None else signature),
            userHandle=encode(handle) if handle is not None else None,
        )

    def _credential(self, **response: Any) -> dict[str, Any]:
        return {
            "id": encode(self.id),
            "rawId": encode(self.id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }
