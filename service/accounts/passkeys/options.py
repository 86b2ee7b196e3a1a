"""The options for the browser in the two ceremonies of WebAuthn (Level 3, section 5.4 and 5.5).

The functions import the library: call ``load_library`` before them.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from service.accounts.one_time_tokens import Purpose
from service.accounts.passkeys.credentials import decode
from service.accounts.passkeys.relying_party import RelyingParty
from service.http.openapi.schemas import array_of, boolean, integer, object_of, one_of, string

TIMEOUT = Purpose.PASSKEY_LOGIN.ttl * 1000
"""Milliseconds that the browser gives the person. The challenge lives as long."""

CHALLENGE = string(example="arOZ4RHII2_7scyp_pnNOW134oR0GoNfFodtN71doJc")
RP_ID = string(example="example.org")
DESCRIPTOR = {
    "type": "object",
    "properties": {
        "id": string(example="aPzF5qYhCm1rXgbzxcqMWzZ156eO4XKCmoTAggtNIcc"),
        "type": one_of("public-key"),
        "transports": array_of(string(example="internal")),
    },
    "required": ["id", "type"],
    "additionalProperties": False,
}
CREATION_OPTIONS = object_of(
    rp=object_of(name=RP_ID, id=RP_ID),
    user=object_of(
        id=string(example="C3ofUmpeTw6dOl8vC5o8EQ"),
        name=string(example="jake@jake.jake"),
        displayName=string(example="jake"),
    ),
    challenge=CHALLENGE,
    pubKeyCredParams=array_of(object_of(type=one_of("public-key"), alg=integer(example=-7))),
    timeout=integer(example=TIMEOUT),
    excludeCredentials=array_of(DESCRIPTOR),
    authenticatorSelection=object_of(
        residentKey=one_of("required"),
        requireResidentKey=boolean(example=True),
        userVerification=one_of("required"),
    ),
    attestation=one_of("none"),
)
REQUEST_OPTIONS = object_of(
    challenge=CHALLENGE,
    timeout=integer(example=TIMEOUT),
    rpId=RP_ID,
    allowCredentials=array_of(DESCRIPTOR),
    userVerification=one_of("required"),
)


def creation_options(
    party: RelyingParty,
    challenge: str,
    *,
    user_id: UUID,
    name: str,
    display_name: str,
    known: Sequence[Any],
) -> dict[str, Any]:
    """Return the JSON for ``PublicKeyCredential.parseCreationOptionsFromJSON()``.

    ``known`` are rows with ``credential_id`` and ``transports``: an authenticator that has one of
    these passkeys of the user creates no other. The user handle is the user's id, which is random.
    """
    import webauthn
    from webauthn.helpers.options_to_json_dict import options_to_json_dict
    from webauthn.helpers.structs import (
        AuthenticatorSelectionCriteria,
        AuthenticatorTransport,
        PublicKeyCredentialDescriptor,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    options = webauthn.generate_registration_options(
        rp_id=party.id,
        # Browsers show the id. WebAuthn Level 3, section 5.4.1, names it as a safe default.
        rp_name=party.id,
        user_id=user_id.bytes,
        user_name=name,
        user_display_name=display_name,
        challenge=decode(challenge),
        timeout=TIMEOUT,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[
            PublicKeyCredentialDescriptor(
                id=row["credential_id"],
                transports=[AuthenticatorTransport(value) for value in row["transports"]],
            )
            for row in known
        ],
    )
    return options_to_json_dict(options)


def request_options(party: RelyingParty, challenge: str) -> dict[str, Any]:
    """Return the JSON for ``PublicKeyCredential.parseRequestOptionsFromJSON()``.

    It names no credentials: the person chooses among the passkeys that their devices offer.
    """
    import webauthn
    from webauthn.helpers.options_to_json_dict import options_to_json_dict
    from webauthn.helpers.structs import UserVerificationRequirement

    options = webauthn.generate_authentication_options(
        rp_id=party.id,
        challenge=decode(challenge),
        timeout=TIMEOUT,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json_dict(options)
