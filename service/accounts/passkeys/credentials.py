"""Validate the JSON of a ``PublicKeyCredential`` (WebAuthn Level 3, section 5.1.1).

It is the JSON that ``PublicKeyCredential.toJSON()`` returns in the browser. Every field is bounded,
so that the cost of a verification is bounded too. Unknown fields are ignored.
"""

import base64
import binascii
import re
from typing import Any

import voluptuous as vol

from service.http.errors import BLANK
from service.http.openapi.schemas import json_schema
from service.http.validation import nested, required

# WebAuthn Level 3, section 5.8.4.
TRANSPORTS = ("usb", "nfc", "ble", "smart-card", "internal", "cable", "hybrid")
MAX_ID = 1023  # Bytes. WebAuthn Level 3, section 4, "Credential ID".
MAX_USER_HANDLE = 64  # Bytes. WebAuthn Level 3, section 5.4.3.
MAX_DATA = 8192  # Bytes of any other field. An attestation with certificates has some 4,000.


class Base64Url:
    """A validator of bytes in base64url without padding (RFC 4648, section 5)."""

    def __init__(self, *, longest: int, example: str) -> None:
        """Accept 1 to ``longest`` bytes. ``example`` is only documentation."""
        self._longest = longest
        self._max_length = -(-longest * 8 // 6)
        self.json_schema: dict[str, Any] = {
            "type": "string",
            "contentEncoding": "base64url",
            "minLength": 2,
            "maxLength": self._max_length,
            "pattern": "^[A-Za-z0-9_-]*$",
            "examples": [example],
        }

    def __call__(self, value: Any) -> bytes:
        """Return the bytes. Raise ``vol.Invalid`` for any other value."""
        if value is None or value == "":
            raise vol.Invalid(BLANK)
        if not isinstance(value, str):
            raise vol.Invalid("must be a string")
        if len(value) > self._max_length:
            raise vol.Invalid(f"is too long (maximum is {self._longest} bytes)")
        try:
            decoded = decode(value)
        except ValueError:
            raise vol.Invalid("is not base64url without padding") from None
        return decoded


def decode(value: str) -> bytes:
    """Return the bytes in ``value``. Raise ``ValueError`` unless it is the one form of them."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", value):
        raise ValueError("another character")
    try:
        decoded = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if encode(decoded) != value:
        raise ValueError("unused bits are set")
    return decoded


def encode(value: bytes) -> str:
    """Return ``value`` in base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


@json_schema({"type": "string", "enum": ["public-key"], "examples": ["public-key"]})
def _type(value: Any) -> str:
    if value != "public-key":
        raise vol.Invalid("must be public-key")
    return "public-key"


@json_schema({"type": "array", "items": {"type": "string", "examples": ["internal"]}})
def _transports(value: Any) -> list[str]:
    """Return the known transports in ``value``. Ignore others, as the standard says."""
    if not isinstance(value, list):
        raise vol.Invalid("must be a list")
    return [transport for transport in TRANSPORTS if transport in value]


_USER_HANDLE = Base64Url(longest=MAX_USER_HANDLE, example="C3ofUmpeTw6dOl8vC5o8EQ")


@json_schema({**_USER_HANDLE.json_schema, "type": ["string", "null"], "minLength": 0})
def _user_handle(value: Any) -> bytes | None:
    return None if value is None or value == "" else _USER_HANDLE(value)


_ID = Base64Url(longest=MAX_ID, example="aPzF5qYhCm1rXgbzxcqMWzZ156eO4XKCmoTAggtNIcc")
_CLIENT_DATA = Base64Url(longest=MAX_DATA, example="eyJ0eXBlIjoid2ViYXV0aG4uZ2V0In0")

CREATED_CREDENTIAL = nested(
    {
        required("id"): _ID,
        required("type"): _type,
        required("response"): nested(
            {
                required("clientDataJSON"): _CLIENT_DATA,
                required("attestationObject"): Base64Url(
                    longest=MAX_DATA, example="o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YVil"
                ),
                vol.Optional("transports", default=list): _transports,
            }
        ),
    }
)
"""The response to ``navigator.credentials.create()``."""

ASSERTED_CREDENTIAL = nested(
    {
        required("id"): _ID,
        required("type"): _type,
        required("response"): nested(
            {
                required("clientDataJSON"): _CLIENT_DATA,
                required("authenticatorData"): Base64Url(
                    longest=MAX_DATA, example="SZYN5YgOjGh0NBcPZHZgW4_krrmihjLHmVzzuoMdl2MFAAAAAg"
                ),
                required("signature"): Base64Url(
                    longest=MAX_DATA, example="fKkeCJmOnmpuLl__qkQR21oJku7x53-9lOs8qi7jAK8"
                ),
                vol.Optional("userHandle", default=None): _user_handle,
            }
        ),
    }
)
"""The response to ``navigator.credentials.get()``."""
