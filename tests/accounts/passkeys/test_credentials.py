"""The JSON of a credential: every field is bounded."""

import copy
from typing import Any

import pytest
import voluptuous as vol

from service.accounts.passkeys.credentials import (
    ASSERTED_CREDENTIAL,
    CREATED_CREDENTIAL,
    MAX_DATA,
    MAX_ID,
    MAX_USER_HANDLE,
    Base64Url,
    decode,
    encode,
)
from service.http.errors import InvalidInput
from service.http.validation import check
from tests.accounts.passkeys.authenticator import Authenticator

CREATED = Authenticator().create(
    {"rp": {"id": "localhost"}, "user": {"id": "AA"}, "challenge": "AA"}
)
ASSERTED = Authenticator(user_handle=b"u").get({"rpId": "localhost", "challenge": "AA"})
BYTES = Base64Url(longest=4, example="AA")


@pytest.mark.parametrize("value", [b"", b"\0", b"ab", b"abc", bytes(range(256))])
def test_base64url_is_decoded(value: bytes) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "value", ["A", "AB", "AA==", "AA=", "A A", "A+", "A/", "AA\n", "ÄA", "AAAAA", "\ud800A"]
)
def test_other_text_is_not_base64url(value: str) -> None:
    """``AB`` sets bits that are not part of its one byte, so that it is a second form of it."""
    with pytest.raises(ValueError, match="."):
        decode(value)
    with pytest.raises(vol.Invalid):
        BYTES(value)


def test_bytes_have_a_maximum() -> None:
    assert BYTES("AAAAAA") == bytes(4)
    for value in ("AAAAAAA", "A" * 10_000):
        with pytest.raises(vol.Invalid, match="is too long"):
            BYTES(value)


@pytest.mark.parametrize("value", [None, "", 7, True, [], {}, ["AA"]])
def test_bytes_must_be_given_as_text(value: Any) -> None:
    with pytest.raises(vol.Invalid):
        BYTES(value)


def test_created_credential_is_decoded() -> None:
    checked = CREATED_CREDENTIAL(CREATED)
    assert checked["id"] == decode(CREATED["id"])
    assert checked["response"]["transports"] == ["internal", "hybrid"]
    assert set(checked) == {"id", "type", "response"}
    assert set(checked["response"]) == {"clientDataJSON", "attestationObject", "transports"}


def test_asserted_credential_is_decoded() -> None:
    checked = ASSERTED_CREDENTIAL(ASSERTED)
    assert checked["response"]["userHandle"] == b"u"
    assert set(checked["response"]) == {
        "clientDataJSON",
        "authenticatorData",
        "signature",
        "userHandle",
    }


@pytest.mark.parametrize("handle", [None, "", ...])
def test_user_handle_may_be_missing(handle: Any) -> None:
    assert (
        ASSERTED_CREDENTIAL(with_field(ASSERTED, "userHandle", handle))["response"]["userHandle"]
        is None
    )


def test_unknown_transports_are_ignored() -> None:
    given = with_field(CREATED, "transports", ["teleport", "usb", "usb", 7, None, {}, []])
    assert CREATED_CREDENTIAL(given)["response"]["transports"] == ["usb"]
    missing = with_field(CREATED, "transports", ...)
    assert CREATED_CREDENTIAL(missing)["response"]["transports"] == []


def with_field(credential: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return ``credential`` with another value of a field. ``...`` removes the field."""
    changed = copy.deepcopy(credential)
    fields = changed if name in changed else changed["response"]
    fields[name] = value
    if value is ...:
        del fields[name]
    return changed


BAD: list[Any] = [None, "", 7, True, [], {}, "A", "=", "\0", "ä", ...]


@pytest.mark.parametrize("value", BAD, ids=repr)
@pytest.mark.parametrize("name", ["id", "response", "clientDataJSON", "attestationObject"])
def test_created_credential_with_a_bad_field_is_invalid(name: str, value: Any) -> None:
    schema = vol.Schema({"credential": CREATED_CREDENTIAL})
    with pytest.raises(InvalidInput):
        check({"credential": with_field(CREATED, name, value)}, schema)


@pytest.mark.parametrize("value", BAD, ids=repr)
@pytest.mark.parametrize(
    "name", ["id", "response", "clientDataJSON", "authenticatorData", "signature"]
)
def test_asserted_credential_with_a_bad_field_is_invalid(name: str, value: Any) -> None:
    schema = vol.Schema({"credential": ASSERTED_CREDENTIAL})
    with pytest.raises(InvalidInput):
        check({"credential": with_field(ASSERTED, name, value)}, schema)


@pytest.mark.parametrize("value", ["", "password", "PUBLIC-KEY", None, 7, [], {}, ...], ids=repr)
def test_type_must_be_public_key(value: Any) -> None:
    for schema, credential in ((CREATED_CREDENTIAL, CREATED), (ASSERTED_CREDENTIAL, ASSERTED)):
        with pytest.raises(vol.Invalid):
            schema(with_field(credential, "type", value))


@pytest.mark.parametrize("value", ["usb", 7, {}, None], ids=repr)
def test_transports_must_be_a_list(value: Any) -> None:
    with pytest.raises(vol.Invalid):
        CREATED_CREDENTIAL(with_field(CREATED, "transports", value))


@pytest.mark.parametrize("value", [7, True, [], {}, "A", "=", "AB"], ids=repr)
def test_bad_user_handle_is_invalid(value: Any) -> None:
    with pytest.raises(vol.Invalid):
        ASSERTED_CREDENTIAL(with_field(ASSERTED, "userHandle", value))


@pytest.mark.parametrize(
    ("name", "longest"),
    [("id", MAX_ID), ("clientDataJSON", MAX_DATA), ("attestationObject", MAX_DATA)],
)
def test_field_of_a_created_credential_has_a_maximum(name: str, longest: int) -> None:
    CREATED_CREDENTIAL(with_field(CREATED, name, encode(bytes(longest))))
    with pytest.raises(vol.Invalid):
        CREATED_CREDENTIAL(with_field(CREATED, name, encode(bytes(longest + 1))))


@pytest.mark.parametrize(
    ("name", "longest"),
    [
        ("id", MAX_ID),
        ("clientDataJSON", MAX_DATA),
        ("authenticatorData", MAX_DATA),
        ("signature", MAX_DATA),
        ("userHandle", MAX_USER_HANDLE),
    ],
)
def test_field_of_an_asserted_credential_has_a_maximum(name: str, longest: int) -> None:
    ASSERTED_CREDENTIAL(with_field(ASSERTED, name, encode(bytes(longest))))
    with pytest.raises(vol.Invalid):
        ASSERTED_CREDENTIAL(with_field(ASSERTED, name, encode(bytes(longest + 1))))
