"""Check the responses of the browser in the two ceremonies of WebAuthn.

The checks are those of WebAuthn Level 3, sections 7.1 and 7.2. The library does most of them. This
module adds what the library leaves out: embedded pages, CBOR that authenticators never write, and
public keys that no login could use. It does not use the database.

The functions import the library: call ``load_library`` before them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import orjson

from service.accounts.passkeys.cbor import require_ctap2_cbor
from service.accounts.passkeys.credentials import decode, encode
from service.accounts.passkeys.relying_party import RelyingParty

RSA_BITS = range(2048, 4097)

_Result = TypeVar("_Result")

_HEAD = 37  # Bytes of authenticator data before the optional parts.
_FLAGS, _ATTESTED = 32, 0x40
_ID_LENGTH = 53  # Position of the length of the credential id, two bytes.


class InvalidCredential(Exception):
    """The response of the browser does not pass the checks of the ceremony."""


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential that an authenticator has created."""

    id: bytes
    public_key: bytes
    """In COSE form (RFC 9053)."""
    sign_count: int
    aaguid: UUID
    """The model of the authenticator, or zeros if the browser does not reveal it."""


def challenge_of(credential: Mapping[str, Any]) -> str:
    """Return the challenge to which ``credential`` responds, in base64url.

    Raise ``InvalidCredential`` if it has none.
    """
    challenge = _client_data(credential).get("challenge")
    if not isinstance(challenge, str) or len(challenge) > 100 or not challenge.isascii():
        raise InvalidCredential("the client data has no challenge")
    return challenge


def verify_creation(
    party: RelyingParty, credential: Mapping[str, Any], challenge: str
) -> NewCredential:
    """Check the response to ``creation_options``. Raise ``InvalidCredential``.

    Ignore an attestation: the options ask for none, and no authenticator is trusted more than
    others (WebAuthn Level 3, section 7.1, allows this).
    """
    import webauthn
    from webauthn.helpers import encode_cbor, parse_cbor
    from webauthn.helpers.structs import AuthenticatorAttestationResponse, RegistrationCredential

    response = credential["response"]
    origin = _accepted_origin(party, credential)

    def verify() -> NewCredential:
        require_ctap2_cbor(response["attestationObject"])
        authenticator_data = parse_cbor(response["attestationObject"])["authData"]
        _check_authenticator_data(authenticator_data)
        verified = webauthn.verify_registration_response(
            credential=RegistrationCredential(
                id=encode(credential["id"]),
                raw_id=credential["id"],
                response=AuthenticatorAttestationResponse(
                    client_data_json=response["clientDataJSON"],
                    attestation_object=encode_cbor(
                        {"fmt": "none", "attStmt": {}, "authData": authenticator_data}
                    ),
                ),
            ),
            expected_challenge=decode(challenge),
            expected_rp_id=party.id,
            expected_origin=[origin],
            require_user_verification=True,
        )
        if verified.credential_id != credential["id"]:
            raise InvalidCredential("the authenticator created another credential")
        _check_public_key(verified.credential_public_key)
        return NewCredential(
            verified.credential_id,
            verified.credential_public_key,
            verified.sign_count,
            UUID(verified.aaguid),
        )

    return _call(verify)


def verify_assertion(
    party: RelyingParty, credential: Mapping[str, Any], challenge: str, public_key: bytes
) -> int:
    """Check the response to ``request_options``. Return the signature counter.

    Raise ``InvalidCredential``. The caller compares the user handle and the counter.
    """
    import webauthn
    from webauthn.helpers.structs import AuthenticationCredential, AuthenticatorAssertionResponse

    response = credential["response"]
    origin = _accepted_origin(party, credential)

    def verify() -> int:
        _check_authenticator_data(response["authenticatorData"])
        verified = webauthn.verify_authentication_response(
            credential=AuthenticationCredential(
                id=encode(credential["id"]),
                raw_id=credential["id"],
                response=AuthenticatorAssertionResponse(
                    client_data_json=response["clientDataJSON"],
                    authenticator_data=response["authenticatorData"],
                    signature=response["signature"],
                    user_handle=response["userHandle"],
                ),
            ),
            expected_challenge=decode(challenge),
            expected_rp_id=party.id,
            expected_origin=[origin],
            credential_public_key=public_key,
            # The database compares the counter, also for simultaneous logins.
            credential_current_sign_count=0,
            require_user_verification=True,
        )
        return verified.new_sign_count

    return _call(verify)


def _call(verify: Callable[[], _Result]) -> _Result:
    """Return the result of ``verify``. Raise ``InvalidCredential`` for any error.

    The library checks bytes that an attacker can choose. It raises its own errors, and also those
    of the parsers below it.
    """
    try:
        return verify()
    except Exception as error:
        raise InvalidCredential(str(error)) from error


def _client_data(credential: Mapping[str, Any]) -> dict[str, Any]:
    try:
        data = orjson.loads(credential["response"]["clientDataJSON"])
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise InvalidCredential("the client data is not a JSON object")
    return data


def _accepted_origin(party: RelyingParty, credential: Mapping[str, Any]) -> str:
    """Return the origin of the page that ran the ceremony. Raise ``InvalidCredential``.

    Reject a page that another origin has embedded: it could be covered to trick the person.
    """
    data = _client_data(credential)
    origin = data.get("origin")
    if not isinstance(origin, str) or not party.accepts(origin):
        raise InvalidCredential("the page has another origin")
    if data.get("crossOrigin", False) is not False:
        raise InvalidCredential("the page is embedded by another origin")
    return origin


def _check_authenticator_data(data: bytes) -> None:
    """Check the CBOR in authenticator data: the public key, and extensions.

    Raise ``ValueError`` or ``IndexError``.
    """
    start = _HEAD
    if data[_FLAGS] & _ATTESTED:
        start = _ID_LENGTH + 2 + int.from_bytes(data[_ID_LENGTH : _ID_LENGTH + 2], "big")
    require_ctap2_cbor(data[start:])


def _check_public_key(public_key: bytes) -> None:
    """Check that a login can use ``public_key``. Raise any error, as the library does."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from webauthn.helpers import decode_credential_public_key
    from webauthn.helpers.decoded_public_key_to_cryptography import (
        decoded_public_key_to_cryptography,
    )

    decoded = decode_credential_public_key(public_key)
    key = decoded_public_key_to_cryptography(decoded)
    if isinstance(key, RSAPublicKey) and key.key_size not in RSA_BITS:
        raise ValueError("the RSA key has another size")
