"""Replace the key that signs access tokens, and encrypt the private keys again.

The old key verifies until its last token has expired: no user is signed out.
"""

from dataclasses import dataclass
from uuid import UUID

import sql
from service.accounts.encryption import DecryptionError, Encryption
from service.accounts.sessions.signing_keys import PURPOSE, insert_key
from service.database.pool import Database

MARGIN = 3600  # Seconds that a key is kept longer than the tokens that it signed.
MAX_KEYS = 20


class RotationError(Exception):
    """No key can be added now. The message is one sentence."""

    exit_status = 1


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new key, or ``None`` if none was added, and the number of keys that were removed."""

    key_id: UUID | None
    signs_in: int
    removed: int


async def rotate(
    connection: sql.Connection, encryption: Encryption, algorithm: str | None, *, revoke_old: bool
) -> Rotation:
    """Add a key of ``algorithm``, or none if it is ``None``, in the transaction of ``connection``.

    With ``revoke_old`` remove all other keys, whose tokens are then invalid at once. Raise
    ``RotationError`` while an earlier key does not sign yet, and ``NoEncryptionKey``.
    """
    await sql.signing_keys.lock(connection)
    removed = await sql.signing_keys.delete_all(connection) if revoke_old else 0
    if algorithm is None:
        return Rotation(None, 0, removed)
    rows = await sql.signing_keys.list(connection)
    if rows and rows[0]["signs_in"] > 0:
        raise RotationError(
            f"The key {rows[0]['id']} is new: it signs in {int(rows[0]['signs_in']) + 1} seconds."
        )
    if len(rows) >= MAX_KEYS:
        raise RotationError(f"There are {MAX_KEYS} keys whose tokens have not expired yet.")
    key_id, signs_in = await insert_key(connection, encryption, algorithm)
    return Rotation(key_id, signs_in, removed)


async def reencrypt(database: Database, encryption: Encryption) -> tuple[int, int]:
    """Encrypt every private key with the current key of ``ENCRYPTION_KEYS``.

    Return the numbers of successes and failures. A key that cannot be decrypted stays as it is.
    Raise ``NoEncryptionKey``.
    """
    replaced = failed = 0
    for row in await sql.signing_keys.list(database):
        if row["private_key"].startswith(encryption.current_key_id):
            continue
        try:
            plain = encryption.decrypt(row["private_key"], purpose=PURPOSE, owner_id=row["id"])
        except DecryptionError:
            failed += 1
            continue
        renewed = encryption.encrypt(plain, purpose=PURPOSE, owner_id=row["id"])
        replaced += (
            await sql.signing_keys.replace_private_key(
                database,
                id=row["id"],
                old_private_key=row["private_key"],
                new_private_key=renewed,
            )
            is not None
        )
    return replaced, failed
