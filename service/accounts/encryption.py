"""Encrypt the secrets that the service must be able to read again, such as those of TOTP.

AES-256-GCM with the keys of ``ENCRYPTION_KEYS``: the first key encrypts, all of them decrypt. A
ciphertext begins with the id of its key. The purpose and the id of its owner, a user or
a row, are authenticated with it (the associated data of NIST SP 800-38D). A ciphertext that is
copied to another owner or to another column is useless. The email is not part of it: a user who
changed it needs the same secrets.
"""

import os
from collections.abc import Sequence
from uuid import UUID

from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_ID_BYTES = 4
NONCE_BYTES = 12  # NIST SP 800-38D, section 8.2.2: a random nonce has 96 bits.


class NoEncryptionKey(Exception):
    """``ENCRYPTION_KEYS`` is empty, so nothing can be encrypted."""


class DecryptionError(Exception):
    """A ciphertext cannot be decrypted. The message names the reason, and no secret."""


class Encryption:
    """Encrypt with the first of ``keys``, and decrypt with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        """``keys`` are the random texts of the setting. AES keys are derived from them."""
        derived = [_derive(key) for key in keys]
        self._ciphers = {key_id: AESGCM(key) for key_id, key in reversed(derived)}
        self._current = derived[0][0] if derived else None

    @property
    def current_key_id(self) -> bytes:
        """The id of the key that encrypts. Raise ``NoEncryptionKey``."""
        if self._current is None:
            raise NoEncryptionKey
        return self._current

    @property
    def is_available(self) -> bool:
        """Whether there is a key."""
        return self._current is not None

    def encrypt(self, plain: bytes, *, purpose: str, owner_id: UUID) -> bytes:
        """Return the ciphertext of ``plain``, for ``decrypt`` with the same purpose and owner.

        Raise ``NoEncryptionKey``.
        """
        key_id, nonce = self.current_key_id, os.urandom(NONCE_BYTES)
        encrypted = self._ciphers[key_id].encrypt(nonce, plain, _associated_data(purpose, owner_id))
        return key_id + nonce + encrypted

    def decrypt(self, ciphertext: bytes, *, purpose: str, owner_id: UUID) -> bytes:
        """Return the text that ``encrypt`` encrypted. Raise ``DecryptionError``."""
        key_id, nonce = ciphertext[:KEY_ID_BYTES], ciphertext[KEY_ID_BYTES:][:NONCE_BYTES]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise DecryptionError(f"no key of ENCRYPTION_KEYS has the id {key_id.hex()}")
        encrypted = ciphertext[KEY_ID_BYTES + NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, encrypted, _associated_data(purpose, owner_id))
        except (InvalidTag, ValueError):
            raise DecryptionError("it was changed, or encrypted for another owner") from None


def _derive(key: str) -> tuple[bytes, bytes]:
    """Return the id and the AES-256 key of ``key`` (HKDF, RFC 5869). The id reveals nothing."""
    # Settings may contain bytes that are not UTF-8.
    material = key.encode("utf-8", "surrogateescape")

    def expand(info: bytes, length: int) -> bytes:
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(material)

    return expand(b"key id", KEY_ID_BYTES), expand(b"AES-256-GCM", 32)


def _associated_data(purpose: str, owner_id: UUID) -> bytes:
    return owner_id.bytes + purpose.encode()


ENCRYPTION = web.AppKey("encryption", Encryption)
