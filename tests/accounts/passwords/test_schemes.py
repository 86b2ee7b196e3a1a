"""The hashes of passwords in the spellings of other systems."""

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
    with pytest.raises(ValueError, match="^(is|has|takes|Incorrect|Invalid|Only)"):
        parse(normalize(hashed))


def test_new_hash_of_argon2id_has_the_parameters_of_its_kind() -> None:
    hashed = ARGON2ID.hash("x")
    assert hashed.startswith(f"{ARGON2ID_KIND}$")
    assert parse(hashed).kind == ARGON2ID_KIND
    assert parse(hashed).verify(b"x")


def test_password_of_more_than_72_bytes_matches_no_bcrypt_hash() -> None:
    parsed = parse("$2b$04$fW/aYDx4A3vpzp3dydLXzeeQ.pjGSDYFQQ62YQEVmidqFije99Rl.")
    assert not parsed.verify(PASSWORD.encode() + b"x" * 80)
