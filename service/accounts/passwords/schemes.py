"""Verify the hashes of passwords: bcrypt, argon2, scrypt and PBKDF2, in the common spellings.

New hashes are made by bcrypt or argon2id. The others come from imported accounts, and are replaced
at the next login. A hash names its own cost, so ``parse`` refuses one that would take too much time
or memory.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

import argon2
import bcrypt

MAX_BCRYPT_BYTES = 72  # bcrypt ignores all further bytes.

# OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, two iterations and one lane.
ARGON2ID = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
ARGON2ID_KIND = "$argon2id$v=19$m=19456,t=2,p=1"

MAX_BCRYPT_COST = 16
MAX_MEMORY = 128 * 1024 * 1024  # Bytes of one hash.
MAX_ARGON2_PASSES = 10
MAX_SCRYPT_WORK = 256 * 1024 * 1024  # Bytes that one hash writes, all lanes together.
MAX_LANES = 16
MAX_PBKDF2_ROUNDS = 2_000_000

# The last characters of the salt and the checksum have unused bits, which are 0.
_BCRYPT = re.compile(
    r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]", re.ASCII
)
_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=([1-9]\d{0,9}),t=([1-9]\d{0,9}),p=([1-9]\d{0,9})"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{16,86})",
    re.ASCII,
)
_SCRYPT_PASSLIB = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,10}),p=(\d{1,10})\$([A-Za-z0-9+/]{0,128})\$([A-Za-z0-9+/]{43})",
    re.ASCII,
)
_SCRYPT_DJANGO = re.compile(
    r"scrypt\$(\d{1,10})\$([^$]{1,128})\$(\d{1,10})\$(\d{1,10})\$([A-Za-z0-9+/=]{88})", re.ASCII
)
_PBKDF2_PASSLIB = re.compile(
    r"\$pbkdf2(|-sha256|-sha512)\$(\d{1,10})\$([A-Za-z0-9./]{1,128})\$([A-Za-z0-9./]{27,86})",
    re.ASCII,
)
_PBKDF2_DJANGO = re.compile(
    r"pbkdf2_(sha1|sha256)\$(\d{1,10})\$([^$]{1,128})\$([A-Za-z0-9+/=]{28,44})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class ParsedHash:
    """A hash that can be verified."""

    kind: str
    """The algorithm with its parameters: hashes of one kind take the same time."""
    verify: Callable[[bytes], bool]
    """Return whether a password matches. It takes the time of the hash. Run it in a thread."""


def parse(hashed: str) -> ParsedHash:
    """Return the hash in ``hashed``.

    Accept bcrypt (``$2a$``, ``$2b$``, ``$2y$``), argon2 (``$argon2id$``, ``$argon2i$``,
    ``$argon2d$``), and scrypt and PBKDF2 as Django and passlib write them. Raise ``ValueError``
    with the reason for any other hash, and for one that takes too much time or memory.
    """
    for pattern, build in _PARSERS:
        if match := pattern.fullmatch(hashed):
            return build(match)
    raise ValueError("is no hash of bcrypt, argon2, scrypt or PBKDF2 in a known spelling")


def _bcrypt(match: re.Match[str]) -> ParsedHash:
    cost = int(match[1])
    if not 4 <= cost <= MAX_BCRYPT_COST:
        raise ValueError(f"has a bcrypt cost other than 4 to {MAX_BCRYPT_COST}")
    hashed = match[0].encode()

    def verify(password: bytes) -> bool:
        # bcrypt ignores further bytes, so such a password matches nothing. The work is the same.
        is_short = len(password) <= MAX_BCRYPT_BYTES
        return bcrypt.checkpw(password[:MAX_BCRYPT_BYTES], hashed) and is_short

    return ParsedHash(f"bcrypt {cost}", verify)


def _argon2(match: re.Match[str]) -> ParsedHash:
    memory, passes, lanes = (int(match[number]) for number in (1, 2, 3))
    _check_memory(memory * 1024)
    if passes > MAX_ARGON2_PASSES or lanes > MAX_LANES or memory < 8 * lanes:
        raise ValueError("has parameters of argon2 that are out of bounds")
    for part in (match[4], match[5]):
        _base64(part)  # argon2 would reject a malformed hash without its work.
    hashed = match[0]

    def verify(password: bytes) -> bool:
        try:
            return ARGON2ID.verify(hashed, password)
        except argon2.exceptions.VerificationError:
            return False
        except argon2.exceptions.InvalidHashError:
            return False

    return ParsedHash(hashed.rpartition("$")[0].rpartition("$")[0], verify)


def _scrypt(rounds: int, block: int, lanes: int, salt: bytes, expected: bytes) -> ParsedHash:
    if rounds < 2 or rounds & (rounds - 1) or block < 1 or not 1 <= lanes <= MAX_LANES:
        raise ValueError("has parameters of scrypt that are out of bounds")
    _check_memory(128 * block * max(rounds, lanes))
    if 128 * block * rounds * lanes > MAX_SCRYPT_WORK:
        raise ValueError("takes too much time")
    if rounds.bit_length() > 16 * block:  # RFC 7914, section 2.
        raise ValueError("has more rounds of scrypt than its block size allows")

    def verify(password: bytes) -> bool:
        digest = hashlib.scrypt(
            password,
            salt=salt,
            n=rounds,
            r=block,
            p=lanes,
            maxmem=2 * MAX_MEMORY,
            dklen=len(expected),
        )
        return hmac.compare_digest(digest, expected)

    return ParsedHash(f"scrypt {rounds} {block} {lanes}", verify)


def _scrypt_of_passlib(match: re.Match[str]) -> ParsedHash:
    exponent, block, lanes = (int(match[number]) for number in (1, 2, 3))
    return _scrypt(1 << min(exponent, 40), block, lanes, _base64(match[4]), _base64(match[5]))


def _scrypt_of_django(match: re.Match[str]) -> ParsedHash:
    rounds, block, lanes = (int(match[number]) for number in (1, 3, 4))
    return _scrypt(rounds, block, lanes, match[2].encode(), _base64(match[5]))


def _pbkdf2(name: str, rounds: int, salt: bytes, expected: bytes) -> ParsedHash:
    if not 1 <= rounds <= MAX_PBKDF2_ROUNDS:
        raise ValueError(f"has a number of rounds of PBKDF2 other than 1 to {MAX_PBKDF2_ROUNDS}")
    if len(expected) != hashlib.new(name).digest_size:
        raise ValueError("has a checksum of another length than that of its algorithm")

    def verify(password: bytes) -> bool:
        digest = hashlib.pbkdf2_hmac(name, password, salt, rounds)
        return hmac.compare_digest(digest, expected)

    return ParsedHash(f"pbkdf2 {name} {rounds}", verify)


def _pbkdf2_of_passlib(match: re.Match[str]) -> ParsedHash:
    name = match[1].lstrip("-") or "sha1"
    salt, expected = (_base64(match[number].replace(".", "+")) for number in (3, 4))
    return _pbkdf2(name, int(match[2]), salt, expected)


def _pbkdf2_of_django(match: re.Match[str]) -> ParsedHash:
    return _pbkdf2(match[1], int(match[2]), match[3].encode(), _base64(match[4]))


def _check_memory(size: int) -> None:
    if size > MAX_MEMORY:
        raise ValueError(f"takes more than {MAX_MEMORY // 1024 // 1024} MiB of memory")


def _base64(text: str) -> bytes:
    """Decode Base64 with or without padding. Raise ``ValueError`` if it is malformed."""
    text = text.rstrip("=")
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        decoded = b""
    # The unused bits of the last character are 0.
    if base64.b64encode(decoded).decode().rstrip("=") != text:
        raise ValueError("has a salt or a checksum that is not Base64")
    return decoded


_PARSERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], ParsedHash]], ...] = (
    (_BCRYPT, _bcrypt),
    (_ARGON2, _argon2),
    (_SCRYPT_PASSLIB, _scrypt_of_passlib),
    (_SCRYPT_DJANGO, _scrypt_of_django),
    (_PBKDF2_PASSLIB, _pbkdf2_of_passlib),
    (_PBKDF2_DJANGO, _pbkdf2_of_django),
)


def normalize(hashed: str) -> str:
    """Return an imported hash without the prefix that Django writes before bcrypt and argon2."""
    for prefix in ("bcrypt$", "argon2$"):
        if hashed.startswith(prefix):
            rest = hashed.removeprefix(prefix)
            return rest if rest.startswith("$") else f"${rest}"
    return hashed
