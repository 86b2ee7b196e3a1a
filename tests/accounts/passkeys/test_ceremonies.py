"""The checks of both ceremonies, with recorded and with forged responses."""

import time
from typing import Any
from uuid import UUID

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from service.accounts.passkeys.ceremonies import (
    InvalidCredential,
    challenge_of,
    verify_assertion,
    verify_creation,
)
from service.accounts.passkeys.credentials import (
    ASSERTED_CREDENTIAL,
    CREATED_CREDENTIAL,
    encode,
)
from service.accounts.passkeys.relying_party import RelyingParty
from service.accounts.sessions.opaque_tokens import new_token
from service.settings.settings import Settings
from tests.accounts.passkeys.authenticator import (
    ATTESTED,
    BACKED_UP,
    BACKUP_ELIGIBLE,
    EXTENSIONS,
    USER_PRESENT,
    USER_VERIFIED,
    VERIFIED,
    Authenticator,
    cose_key,
    new_key,
)
from tests.accounts.passkeys.test_cbor import shared_values

PARTY = RelyingParty(Settings())
CHALLENGE = new_token().plain
CREATION = {"rp": {"id": "localhost"}, "user": {"id": encode(b"user")}, "challenge": CHALLENGE}
REQUEST = {"rpId": "localhost", "challenge": CHALLENGE}
ES256, EDDSA, RS256 = -7, -8, -257
NEW = VERIFIED | ATTESTED


def create(authenticator: Authenticator, **changes: Any) -> Any:
    """Return the verified credential that ``authenticator`` creates."""
    credential = CREATED_CREDENTIAL(authenticator.create(CREATION, **changes))
    return verify_creation(PARTY, credential, CHALLENGE)


def get(authenticator: Authenticator, **changes: Any) -> int:
    """Return the counter of the verified response of ``authenticator``."""
    credential = ASSERTED_CREDENTIAL(authenticator.get(REQUEST, **changes))
    public_key = cbor2.dumps(cose_key(authenticator.key))
    return verify_assertion(PARTY, credential, CHALLENGE, public_key)


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256])
def test_passkey_of_each_algorithm_is_accepted(algorithm: int) -> None:
    aaguid = UUID("ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4")
    authenticator = Authenticator(algorithm, counter=6, aaguid=aaguid.bytes)
    created = create(authenticator)
    assert created.id == authenticator.id
    assert cbor2.loads(created.public_key) == cose_key(authenticator.key)
    assert (created.sign_count, created.aaguid) == (7, aaguid)
    assert get(authenticator) == 8


def test_passkey_without_a_counter_is_accepted() -> None:
    authenticator = Authenticator(has_counter=False)
    assert create(authenticator).sign_count == 0
    assert get(authenticator) == 0


SYNCED = BACKUP_ELIGIBLE | BACKED_UP


def test_synchronized_passkey_and_extensions_are_accepted() -> None:
    authenticator = Authenticator()
    extensions = {"flags": VERIFIED | SYNCED | EXTENSIONS, "tail": cbor2.dumps({"credProtect": 2})}
    create(authenticator, **{**extensions, "flags": extensions["flags"] | ATTESTED})  # type: ignore[operator]
    get(authenticator, **extensions)


CHROMIUM_CREATED = {
    "authenticatorAttachment": "platform",
    "clientExtensionResults": {},
    "id": "aPzF5qYhCm1rXgbzxcqMWzZ156eO4XKCmoTAggtNIcc",
    "rawId": "aPzF5qYhCm1rXgbzxcqMWzZ156eO4XKCmoTAggtNIcc",
    "response": {
        "attestationObject": (
            "o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YViBSZYN5YgOjGh0NBcPZHZgW4_krrmihjLHmVzzuoMdl2NF"
            "AAAAAQECAwQFBgcIAQIDBAUGBwgAIGj8xeamIQpta14G88XKjFs2deenjuFygpqEwIILTSHHpAEBAycgBiFY"
            "IN0NaP5-vE-QrGADQLtLLBENIbY1rpPl-iBrdq8A0Gmd"
        ),
        "clientDataJSON": (
            "eyJ0eXBlIjoid2ViYXV0aG4uY3JlYXRlIiwiY2hhbGxlbmdlIjoiMWRseTQ3Z1N3R2xDV0dZQUVmb2lSZVIx"
            "SEdrVnlHN082UXFaR3I0OXkxTSIsIm9yaWdpbiI6Imh0dHA6Ly9sb2NhbGhvc3Q6MzUxNDEiLCJjcm9zc09y"
            "aWdpbiI6ZmFsc2V9"
        ),
        "publicKey": "MCowBQYDK2VwAyEA3Q1o_n68T5CsYANAu0ssEQ0htjWuk-X6IGt2rwDQaZ0",
        "publicKeyAlgorithm": -8,
        "transports": ["internal"],
    },
    "type": "public-key",
}
CHROMIUM_ASSERTED = {
    "authenticatorAttachment": "platform",
    "clientExtensionResults": {},
    "id": "aPzF5qYhCm1rXgbzxcqMWzZ156eO4XKCmoTAggtNIcc",
    "rawId": "aPzF5qYhCm1rXgbzxcqMWzZ156eO4XKCmoTAggtNIcc",
    "response": {
        "authenticatorData": "SZYN5YgOjGh0NBcPZHZgW4_krrmihjLHmVzzuoMdl2MFAAAAAg",
        "clientDataJSON": (
            "eyJ0eXBlIjoid2ViYXV0aG4uZ2V0IiwiY2hhbGxlbmdlIjoiYXJPWjRSSElJMl83c2N5cF9wbk5PVzEzNG9S"
            "MEdvTmZGb2R0TjcxZG9KYyIsIm9yaWdpbiI6Imh0dHA6Ly9sb2NhbGhvc3Q6MzUxNDEiLCJjcm9zc09yaWdp"
            "biI6ZmFsc2UsIm90aGVyX2tleXNfY2FuX2JlX2FkZGVkX2hlcmUiOiJkbyBub3QgY29tcGFyZSBjbGllbnRE"
            "YXRhSlNPTiBhZ2FpbnN0IGEgdGVtcGxhdGUuIFNlZSBodHRwczovL2dvby5nbC95YWJQZXgifQ"
        ),
        "signature": (
            "fKkeCJmOnmpuLl__qkQR21oJku7x53-9lOs8qi7jAK92lNrVKPb3GMFQpQZOl4-_1ObkulxeLIoVVeui-vH2Cg"
        ),
        "userHandle": "eHh4eHh4eHh4eHh4eHh4eA",
    },
    "type": "public-key",
}


def test_responses_that_chromium_sent_are_accepted() -> None:
    party = RelyingParty(Settings(port=35141))
    created = CREATED_CREDENTIAL(CHROMIUM_CREATED)
    credential = verify_creation(party, created, challenge_of(created))
    asserted = ASSERTED_CREDENTIAL(CHROMIUM_ASSERTED)
    assert verify_assertion(party, asserted, challenge_of(asserted), credential.public_key) == 2
    assert asserted["response"]["userHandle"] == b"x" * 16


FORGED_CLIENT_DATA: dict[str, dict[str, Any]] = {
    "another origin": {"origin": "http://localhost:3001"},
    "another host": {"origin": "http://elsewhere.example"},
    "no origin": {"origin": ...},
    "an origin of another type": {"origin": ["http://localhost:3000"]},
    "another challenge": {"challenge": new_token().plain},
    "no challenge": {"challenge": ...},
    "a challenge of another type": {"challenge": 7},
    "no type": {"type": ...},
    "a type of another type": {"type": ["webauthn.get"]},
    "an unknown type": {"type": "webauthn.payment"},
    "an embedded page": {"crossOrigin": True},
    "an embedded page as text": {"crossOrigin": "true"},
}


@pytest.mark.parametrize("changes", FORGED_CLIENT_DATA.values(), ids=FORGED_CLIENT_DATA)
def test_forged_client_data_is_rejected(changes: dict[str, Any]) -> None:
    authenticator = Authenticator()
    for ceremony in (create, get):
        with pytest.raises(InvalidCredential):
            ceremony(authenticator, **changes)


def test_response_of_the_other_ceremony_is_rejected() -> None:
    authenticator = Authenticator()
    with pytest.raises(InvalidCredential, match="type"):
        create(authenticator, type="webauthn.get")
    with pytest.raises(InvalidCredential, match="type"):
        get(authenticator, type="webauthn.create")


FORGED_FLAGS = {
    "without user verification": USER_PRESENT,
    "without user presence": USER_VERIFIED,
    "without both": 0,
    "backed up, but not eligible": VERIFIED | BACKED_UP,
}


@pytest.mark.parametrize("flags", FORGED_FLAGS.values(), ids=FORGED_FLAGS)
def test_forged_flags_are_rejected(flags: int) -> None:
    authenticator = Authenticator()
    with pytest.raises(InvalidCredential):
        create(authenticator, flags=flags | ATTESTED)
    with pytest.raises(InvalidCredential):
        get(authenticator, flags=flags)


def test_response_for_another_domain_is_rejected() -> None:
    authenticator = Authenticator()
    for ceremony in (create, get):
        with pytest.raises(InvalidCredential, match="RP ID"):
            ceremony(authenticator, rp_id="elsewhere.example")


BAD_TAILS = {
    "extensions with shared values": shared_values(40),
    "extensions with a tag": cbor2.dumps({"a": cbor2.CBORTag(35, "(a+)+$")}),
    "extensions that are cut off": cbor2.dumps({"a": "b"})[:-1],
    "no extensions": b"",
    "two extensions": cbor2.dumps({"a": 1}) * 2,
}


@pytest.mark.parametrize("tail", BAD_TAILS.values(), ids=BAD_TAILS)
def test_malformed_extensions_are_rejected_at_once(tail: bytes) -> None:
    authenticator, start = Authenticator(), time.monotonic()
    with pytest.raises(InvalidCredential):
        create(authenticator, flags=NEW | EXTENSIONS, tail=tail)
    with pytest.raises(InvalidCredential):
        get(authenticator, flags=VERIFIED | EXTENSIONS, tail=tail)
    with pytest.raises(InvalidCredential):
        get(authenticator, flags=VERIFIED | ATTESTED | EXTENSIONS, tail=tail)
    # Without the check of the CBOR, the shared values take longer than the universe exists.
    assert time.monotonic() - start < 5


def test_bytes_after_the_authenticator_data_are_rejected() -> None:
    authenticator = Authenticator()
    for tail in (b"\0", cbor2.dumps({"a": 1})):
        with pytest.raises(InvalidCredential):
            create(authenticator, tail=tail)
        with pytest.raises(InvalidCredential):
            get(authenticator, tail=tail)


def point(**changes: Any) -> dict[Any, Any]:
    key = cose_key(new_key())
    key.update({int(name[1:]) * (-1 if name[0] == "m" else 1): v for name, v in changes.items()})
    return key


def rsa_key(bits: int) -> dict[int, Any]:
    return cose_key(rsa.generate_private_key(65537, bits))


BAD_PUBLIC_KEYS: dict[str, Any] = {
    "a point that is not on the curve": point(m2=bytes(32), m3=b"\1" * 32),
    "a point at infinity": point(m2=bytes(32), m3=bytes(32)),
    "a coordinate of another type": point(m2="x"),
    "an unknown curve": point(m1=9),
    "an unknown algorithm": point(p3=-65535),
    "ES512, which the options do not offer": point(p3=-36),
    "an algorithm of another type": point(p3="ES256"),
    "an unknown type": point(p1=99),
    "a symmetric key": {1: 4, 3: 5, -1: b"secret"},
    "an Ed25519 key that is too short": {1: 1, 3: -8, -1: 6, -2: b"x"},
    "an Ed25519 key of another curve": {1: 1, 3: -8, -1: 4, -2: bytes(32)},
    "an RSA key that is too short": rsa_key(1024),
    "an RSA key with a long exponent": {1: 3, 3: -257, -1: b"\xff" * 256, -2: b"\xff" * 256},
    "an RSA key that is too long": {1: 3, 3: -257, -1: b"\xff" * 2048, -2: b"\1\0\1"},
    "an empty map": {},
    "an empty list": [],
    "null": None,
    "a number": 4,
    "bytes": b"x",
    "shared values": shared_values(40),
    "nothing": b"",
    "no CBOR": b"\xff\xff",
}


@pytest.mark.parametrize("public_key", BAD_PUBLIC_KEYS.values(), ids=BAD_PUBLIC_KEYS)
def test_public_key_that_no_login_can_use_is_rejected(public_key: Any) -> None:
    encoded = public_key if isinstance(public_key, bytes) else cbor2.dumps(public_key)
    with pytest.raises(InvalidCredential):
        create(Authenticator(), public_key=encoded)


def attestation(**changes: Any) -> bytes:
    data = Authenticator().authenticator_data("localhost", NEW)
    return cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data, **changes})


BAD_ATTESTATIONS = {
    "no CBOR": b"\xff",
    "nothing to read": b"\xa0",
    "a list": cbor2.dumps([1, 2]),
    "a number": b"\x07",
    "shared values": shared_values(40),
    "no authenticator data": cbor2.dumps({"fmt": "none", "attStmt": {}}),
    "authenticator data of another type": attestation(authData="x"),
    "authenticator data that are cut off": attestation(authData=bytes(36)),
    "authenticator data of null": attestation(authData=None),
    "two objects": attestation() * 2,
    "a tag": attestation(attStmt=cbor2.CBORTag(28, [])),
}


@pytest.mark.parametrize("value", BAD_ATTESTATIONS.values(), ids=BAD_ATTESTATIONS)
def test_malformed_attestation_object_is_rejected(value: bytes) -> None:
    with pytest.raises(InvalidCredential):
        create(Authenticator(), attestation=value)


@pytest.mark.parametrize("length", range(0, 120, 7))
def test_authenticator_data_that_are_cut_off_are_rejected(length: int) -> None:
    authenticator = Authenticator()
    data = authenticator.authenticator_data("localhost", NEW)[:length]
    with pytest.raises(InvalidCredential):
        create(authenticator, attestation=cbor2.dumps({"fmt": "none", "authData": data}))


def test_attestation_statement_is_ignored() -> None:
    """The options ask for none. An authenticator that sends one nevertheless is like any other."""
    authenticator = Authenticator()
    data = authenticator.authenticator_data("localhost", NEW)
    for fmt in ("packed", "fido-u2f", "tpm", "unknown"):
        statement = {"fmt": fmt, "attStmt": {"sig": b"x", "x5c": [b"y"]}, "authData": data}
        create(authenticator, attestation=cbor2.dumps(statement))


def test_id_of_another_credential_is_rejected() -> None:
    authenticator, other = Authenticator(), Authenticator()
    data = other.authenticator_data("localhost", NEW)
    with pytest.raises(InvalidCredential, match="another credential"):
        create(
            authenticator,
            attestation=cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data}),
        )


def test_registration_without_a_credential_is_rejected() -> None:
    with pytest.raises(InvalidCredential):
        create(Authenticator(), flags=VERIFIED)


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256])
def test_wrong_signature_is_rejected(algorithm: int) -> None:
    authenticator, other = Authenticator(algorithm), Authenticator(algorithm)
    other.id = authenticator.id
    credential = ASSERTED_CREDENTIAL(other.get(REQUEST))
    public_key = cbor2.dumps(cose_key(authenticator.key))
    with pytest.raises(InvalidCredential):
        verify_assertion(PARTY, credential, CHALLENGE, public_key)
    for signature in (b"x", bytes(64), bytes(256), b"\x30\x06\x02\x01\x00\x02\x01\x00"):
        with pytest.raises(InvalidCredential):
            get(authenticator, signature=signature)


def test_signature_covers_the_client_data_and_the_authenticator_data() -> None:
    authenticator = Authenticator()
    public_key = cbor2.dumps(cose_key(authenticator.key))
    credential = ASSERTED_CREDENTIAL(authenticator.get(REQUEST))
    for name in ("clientDataJSON", "authenticatorData"):
        value = credential["response"][name]
        end = value[:-1] + bytes([value[-1] ^ 1]) if name == "authenticatorData" else value + b" "
        changed = {**credential, "response": {**credential["response"], name: end}}
        with pytest.raises(InvalidCredential, match="signature"):
            verify_assertion(PARTY, changed, CHALLENGE, public_key)


CLIENT_DATA = {
    "nothing": b" ",
    "no JSON": b"{",
    "null": b"null",
    "a list": b"[]",
    "text": b'"challenge"',
    "UTF-16": '{"challenge": "AA"}'.encode("utf-16"),
    "invalid UTF-8": b'{"challenge": "\xff"}',
    "a lone surrogate": b'{"challenge": "\\ud800"}',
    "deep nesting": b"[" * 5000,
    "no challenge": b"{}",
    "a challenge of null": b'{"challenge": null}',
    "a challenge that is too long": b'{"challenge": "' + b"A" * 101 + b'"}',
    "a challenge with another character": '{"challenge": "ä"}'.encode(),
}


@pytest.mark.parametrize("data", CLIENT_DATA.values(), ids=CLIENT_DATA)
def test_client_data_without_a_challenge_are_rejected(data: bytes) -> None:
    with pytest.raises(InvalidCredential):
        challenge_of({"response": {"clientDataJSON": data}})


def test_challenge_that_is_not_base64url_is_rejected() -> None:
    authenticator = Authenticator()
    credential = CREATED_CREDENTIAL(authenticator.create({**CREATION, "challenge": "!"}))
    assert challenge_of(credential) == "!"
    with pytest.raises(InvalidCredential):
        verify_creation(PARTY, credential, "!")
