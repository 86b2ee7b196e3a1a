"""Encryption at rest: keys, associated data, and ciphertexts that were changed."""

from uuid import uuid4

import pytest

from service.accounts.encryption import KEY_ID_BYTES, DecryptionError, Encryption, NoEncryptionKey

OLD, NEW = "old-key-of-at-least-32-random-bytes", "new-key-of-at-least-32-random-bytes"
ALICE, BOB = uuid4(), uuid4()
PURPOSE = "totp"


def encrypt(*keys: str, plain: bytes = b"secret") -> bytes:
    return Encryption(keys).encrypt(plain, purpose=PURPOSE, owner_id=ALICE)


def decrypt(ciphertext: bytes, *keys: str) -> bytes:
    return Encryption(keys).decrypt(ciphertext, purpose=PURPOSE, owner_id=ALICE)


def test_ciphertext_is_decrypted_by_the_same_key() -> None:
    ciphertext = encrypt(NEW)
    assert b"secret" not in ciphertext
    assert decrypt(ciphertext, NEW) == b"secret"


def test_equal_texts_have_different_ciphertexts() -> None:
    assert len({encrypt(NEW) for _ in range(100)}) == 100


def test_first_key_encrypts_and_every_key_decrypts() -> None:
    ciphertext = encrypt(OLD)
    assert decrypt(ciphertext, NEW, OLD) == b"secret"
    renewed = encrypt(NEW, OLD)
    assert renewed.startswith(Encryption([NEW]).current_key_id)
    assert decrypt(renewed, NEW) == b"secret"
    with pytest.raises(DecryptionError, match="no key of ENCRYPTION_KEYS has the id"):
        decrypt(renewed, OLD)


def test_key_that_is_given_twice_is_one_key() -> None:
    assert decrypt(encrypt(NEW, NEW), NEW, OLD, NEW) == b"secret"


def test_ciphertext_of_another_user_or_purpose_is_rejected() -> None:
    encryption = Encryption([NEW])
    ciphertext = encrypt(NEW)
    with pytest.raises(DecryptionError, match="another owner"):
        encryption.decrypt(ciphertext, purpose=PURPOSE, owner_id=BOB)
    with pytest.raises(DecryptionError):
        encryption.decrypt(ciphertext, purpose="other", owner_id=ALICE)


def test_changed_or_cut_ciphertext_is_rejected() -> None:
    ciphertext = encrypt(NEW)
    for position in range(len(ciphertext)):
        changed = bytearray(ciphertext)
        changed[position] ^= 1
        with pytest.raises(DecryptionError):
            decrypt(bytes(changed), NEW)
        with pytest.raises(DecryptionError):
            decrypt(ciphertext[:position], NEW)


def test_error_names_the_key_and_contains_no_secret() -> None:
    with pytest.raises(DecryptionError) as raised:
        decrypt(encrypt(OLD), NEW)
    assert encrypt(OLD)[:KEY_ID_BYTES].hex() in str(raised.value)
    assert OLD not in str(raised.value)


def test_nothing_is_encrypted_without_a_key() -> None:
    assert not Encryption([]).is_available
    assert Encryption([NEW]).is_available
    with pytest.raises(NoEncryptionKey):
        encrypt()
    with pytest.raises(DecryptionError):
        decrypt(encrypt(NEW))
