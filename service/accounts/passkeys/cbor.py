"""Check untrusted CBOR before it is decoded.

Authenticators write the CBOR of CTAP2, which has no tags, no indefinite lengths and at most four
levels (Client to Authenticator Protocol 2.1, section 8). A general decoder accepts more. The tags
of shared values alone turn 200 bytes into terabytes when the decoded value is encoded again, and
the WebAuthn library encodes it again.
"""

MAX_DEPTH = 4

_BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(2, 8)


class InvalidCbor(ValueError):
    """The bytes are not the CBOR of CTAP2."""


def require_ctap2_cbor(data: bytes) -> None:
    """Check that ``data`` has only complete items of the CBOR of CTAP2. Raise ``InvalidCbor``."""
    position = 0
    while position < len(data):
        position = _skip_item(data, position, MAX_DEPTH)


def _skip_item(data: bytes, position: int, levels: int) -> int:
    """Return the position after the item at ``position``, which may have ``levels`` more levels."""
    if position >= len(data):
        raise InvalidCbor("an item is missing")
    kind, size = data[position] >> 5, data[position] & 0x1F
    position += 1
    if size < 24:
        value = size
    elif size <= 27:
        end = position + (1 << (size - 24))
        value = int.from_bytes(data[position:end], "big")
        position = end
    else:
        raise InvalidCbor("a length is indefinite or reserved")
    if kind == _TAG:
        raise InvalidCbor("an item has a tag")
    if kind in (_BYTES, _TEXT):
        position += value
    if position > len(data):
        raise InvalidCbor("an item is cut off")
    if kind in (_ARRAY, _MAP):
        if levels == 0:
            raise InvalidCbor("there are too many levels")
        # An item has at least one byte, so the loop ends at the end of the data at the latest.
        for _ in range(value * (2 if kind == _MAP else 1)):
            position = _skip_item(data, position, levels - 1)
    return position
