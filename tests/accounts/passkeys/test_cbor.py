"""Untrusted CBOR that no authenticator writes is rejected before it is decoded."""

from typing import Any

import cbor2
import pytest

from service.accounts.passkeys.cbor import InvalidCbor, require_ctap2_cbor

VALUES: list[Any] = [
    {},
    {1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)},
    {"fmt": "none", "attStmt": {}, "authData": bytes(300)},
    {"fmt": "packed", "attStmt": {"alg": -7, "sig": b"x", "x5c": [b"y", b"z"]}, "authData": b""},
    [[[[1]]]],
    [None, True, False, 1.5, "ä", 2**64 - 1, -(2**64)],
]


def shared_values(levels: int) -> bytes:
    """Return a list of two references to a list of two references, and so on."""
    start = b"\xd8\x1c\x82" * levels + b"\xd8\x1c\x80"
    return start + b"".join(b"\xd8\x1d" + cbor2.dumps(level) for level in range(levels, 0, -1))


REJECTED = {
    "an item with a tag": cbor2.dumps(cbor2.CBORTag(2, b"x")),
    "shared values": shared_values(3),
    "an indefinite list": b"\x9f\x01\xff",
    "an indefinite text": b"\x7f\x61a\xff",
    "a reserved length": b"\x1c",
    "a break": b"\xff",
    "five levels": cbor2.dumps([[[[[]]]]]),
    "a hundred levels": b"\x81" * 100 + b"\x80",
    "a text that is cut off": b"\x63ab",
    "a number that is cut off": b"\x19\x01",
    "a length that is cut off": b"\x5b\x00",
    "a list that is cut off": b"\x82\x01",
    "a map without its last value": b"\xa1\x01",
    "a list of 2^64 - 1 items": b"\x9b" + b"\xff" * 8 + b"\x00",
    "bytes of 2^64 - 1": b"\x5b" + b"\xff" * 8,
    "a tag after a valid item": b"\x01\xc0\x60",
    "a tag as the key of a map": b"\xa1\xc0\x60\x01",
}


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_cbor_of_an_authenticator_is_accepted(value: Any) -> None:
    require_ctap2_cbor(cbor2.dumps(value))
    require_ctap2_cbor(cbor2.dumps(value) * 2)


def test_no_cbor_is_accepted() -> None:
    require_ctap2_cbor(b"")


@pytest.mark.parametrize("data", REJECTED.values(), ids=REJECTED)
def test_other_cbor_is_rejected(data: bytes) -> None:
    with pytest.raises(InvalidCbor):
        require_ctap2_cbor(data)


def test_shared_values_would_grow_when_they_are_encoded_again() -> None:
    """The reason for the check: the WebAuthn library encodes again what it has decoded."""
    data = shared_values(16)
    assert len(cbor2.dumps(cbor2.loads(data))) > 1000 * len(data)
