"""The hashes of passwords in the spellings of other systems."""

import string

import argon2
import bcrypt
import pytest

from service.accounts.passwords.schemes import ARGON2ID, ARGON2ID_KIND, normalize, parse
from tests.accounts.passwords.hashes import ABSURD, HASHES, PASSWORD


@pytest.mark.parametrize("hashed", HASHES.values(), ids=HASHES)
def test_hash_of_another_system_matches_only_its_password(hashed: str) -> None:
    parsed = parse(normalize(hashed))
    assert parsed.verify(PASSWORD.encode())
    for wrong in ("correct horsE", "", PASSWORD + "x", "x" * 5000):
        assert not parsed.verify(wrong.encode())


@pytest.mark.parametrize("hashed", ABSURD.values(), ids=ABSURD)
def test_absurd_hash_is_refused(hashed: str) -> None:
    with pytest.raises(ValueError, match="^(is|has|takes) "):
        parse(normalize(hashed))


@pytest.mark.parametrize(
    "hashed",
    [
        # OWASP Password Storage Cheat Sheet, and the defaults of Django 6 and argon2-cffi.
        *(
            f"$scrypt$ln={exponent},r=8,p={lanes}${'A' * 22}${'A' * 43}"
            for exponent, lanes in [(17, 1), (16, 2), (15, 3), (14, 5), (13, 10)]
        ),
        f"$argon2id$v=19$m=47104,t=1,p=1${'A' * 22}${'A' * 43}",
        f"$argon2id$v=19$m=102400,t=2,p=8${'A' * 22}${'A' * 43}",
        f"$argon2id$v=19$m=65536,t=3,p=4${'A' * 22}${'A' * 43}",
        f"pbkdf2_sha256$1200000$salt${'A' * 43}=",
        f"pbkdf2_sha1$1300000$salt${'A' * 27}=",
    ],
)
def test_hash_with_recommended_parameters_is_taken(hashed: str) -> None:
    assert not parse(hashed).verify(b"x")


def test_new_hash_of_argon2id_has_the_parameters_of_its_kind() -> None:
    hashed = ARGON2ID.hash("x")
    assert hashed.startswith(f"{ARGON2ID_KIND}$")
    assert parse(hashed).kind == ARGON2ID_KIND
    assert parse(hashed).verify(b"x")


def test_password_of_more_than_72_bytes_matches_no_bcrypt_hash() -> None:
    parsed = parse("$2b$04$fW/aYDx4A3vpzp3dydLXzeeQ.pjGSDYFQQ62YQEVmidqFije99Rl.")
    assert not parsed.verify(PASSWORD.encode() + b"x" * 80)


def test_bcrypt_hash_is_refused_exactly_if_bcrypt_cannot_take_its_salt() -> None:
    """A rejection without the work of the hash would reveal that the account exists."""
    for last in f"./{string.ascii_letters}{string.digits}":
        hashed = "$2b$04$" + "." * 21 + last + "." * 31
        try:
            bcrypt.checkpw(b"x", hashed.encode())
        except ValueError:
            assert not is_parsed(hashed)
        else:
            assert is_parsed(hashed)


@pytest.mark.parametrize("length", range(10, 90, 7))
def test_argon2_hash_is_refused_exactly_if_argon2_cannot_take_its_salt(length: int) -> None:
    for last in f"+/{string.ascii_letters}{string.digits}":
        salt = "A" * (length - 1) + last
        hashed = f"$argon2id$v=19$m=8,t=1,p=1${salt}${'A' * 43}"
        try:
            ARGON2ID.verify(hashed, b"x")
        except argon2.exceptions.VerifyMismatchError:
            # A salt of more than 64 bytes is refused though argon2 takes it.
            assert is_parsed(hashed) == (length <= 86)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            assert not is_parsed(hashed)


def is_parsed(hashed: str) -> bool:
    try:
        parse(hashed)
    except ValueError:
        return False
    return True
