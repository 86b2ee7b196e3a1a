"""The options for the browser."""

from uuid import uuid4

from service.accounts.passkeys.credentials import encode
from service.accounts.passkeys.options import creation_options, request_options
from service.accounts.passkeys.relying_party import RelyingParty
from service.accounts.sessions.opaque_tokens import new_token
from service.settings.settings import Settings

PARTY = RelyingParty(Settings(base_url="https://example.org"))
CHALLENGE = new_token().plain


def test_creation_options_require_a_discoverable_passkey_with_user_verification() -> None:
    user_id = uuid4()
    known = [
        {"credential_id": b"one", "transports": ["usb", "nfc"]},
        {"credential_id": b"two", "transports": []},
    ]
    assert creation_options(
        PARTY, CHALLENGE, user_id=user_id, name="a@b.c", display_name="alice", known=known
    ) == {
        "rp": {"name": "example.org", "id": "example.org"},
        "user": {"id": encode(user_id.bytes), "name": "a@b.c", "displayName": "alice"},
        "challenge": CHALLENGE,
        "pubKeyCredParams": [
            {"type": "public-key", "alg": -8},
            {"type": "public-key", "alg": -7},
            {"type": "public-key", "alg": -257},
        ],
        "timeout": 300_000,
        "excludeCredentials": [
            {"id": encode(b"one"), "type": "public-key", "transports": ["usb", "nfc"]},
            {"id": encode(b"two"), "type": "public-key"},
        ],
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    }


def test_request_options_name_no_passkey_and_require_user_verification() -> None:
    assert request_options(PARTY, CHALLENGE) == {
        "challenge": CHALLENGE,
        "timeout": 300_000,
        "rpId": "example.org",
        "allowCredentials": [],
        "userVerification": "required",
    }
