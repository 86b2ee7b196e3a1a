"""Recovery codes: the second factor of a person who has lost their device.

A code has 120 random bits in the alphabet of Crockford's Base32, without letters that look like
digits, so that it can be read aloud. NIST SP 800-63B-4, section 4.2.1.1, requires 64 bits. Only a
digest is stored. With 120 bits a fast one cannot be reversed.
"""

import hashlib
import re
import secrets
from uuid import UUID

import sql

COUNT = 10
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 24  # Characters of five bits.

_IGNORED = re.compile(r"[\s-]")
_AMBIGUOUS = str.maketrans("OIL", "011")
_CODE = re.compile(f"[{ALPHABET}]{{{LENGTH}}}", re.ASCII)


def new_code() -> str:
    """Return a new code in groups of four characters."""
    characters = [secrets.choice(ALPHABET) for _ in range(LENGTH)]
    return "-".join("".join(characters[start : start + 4]) for start in range(0, LENGTH, 4))


def digest_of(given: str) -> bytes | None:
    """Return the digest of a code as a person types it, or ``None`` if it is no recovery code.

    Case, spaces and hyphens do not matter. ``O``, ``I`` and ``L`` stand for digits.
    """
    code = _IGNORED.sub("", given).upper().translate(_AMBIGUOUS)
    return hashlib.sha256(code.encode()).digest() if _CODE.fullmatch(code) else None


async def replace_all(connection: sql.Connection, user_id: UUID) -> list[str]:
    """Replace the codes of a user by ten new ones, and return these.

    The transaction of ``connection`` must hold the lock on the user's row.
    """
    codes = [new_code() for _ in range(COUNT)]
    await sql.recovery_codes.replace_all(
        connection, user_id=user_id, digests=[digest_of(code) for code in codes]
    )
    return codes
