"""Codes of authenticator apps (TOTP, RFC 6238), and the secrets that they are made from.

A secret is stored encrypted. A code has six digits and belongs to a time step of 30 seconds. The
codes of the steps before and after the current one are accepted too: the clock of a phone differs,
and typing takes time (RFC 6238, section 5.2).
"""

import hmac
import io
import re
import time
from collections.abc import Callable
from uuid import UUID

import pyotp
import segno

import sql
from service.accounts.encryption import DecryptionError, Encryption
from service.database.pool import Database

PURPOSE = "totp"
PERIOD = 30  # Seconds of a time step.
DRIFT = 1  # Time steps before and after the current one whose codes are accepted.
BATCH = 1000  # Secrets that are read at once to encrypt them again.

clock = time.time

_CODE = re.compile(r"[0-9]{6}")


def new_secret() -> str:
    """Return a new secret of 160 random bits in base32, as authenticator apps show it."""
    return pyotp.random_base32()


def matching_step(secret: str, code: str) -> int | None:
    """Return the time step whose code is ``code``, or ``None`` if no accepted step has it.

    A code is exactly six ASCII digits: ``str.isdigit`` would accept those of other scripts.
    """
    if not _CODE.fullmatch(code):
        return None
    current = int(clock() // PERIOD)
    totp = pyotp.TOTP(secret, interval=PERIOD)
    steps = range(current + DRIFT, current - DRIFT - 1, -1)
    return next(
        (step for step in steps if hmac.compare_digest(totp.generate_otp(step), code)), None
    )


def provisioning_uri(secret: str, email: str, issuer: str) -> str:
    """Return the ``otpauth://`` URI that an authenticator app reads from a QR code.

    ``issuer`` is the name of this service. The format separates it from the email by a colon, so
    neither may contain one. The host of a service in development has a port, ``localhost:3000``.
    """
    name, issuer = email.replace(":", " "), issuer.replace(":", " ")
    return pyotp.TOTP(secret, interval=PERIOD).provisioning_uri(name=name, issuer_name=issuer)


def qr_code(uri: str) -> str:
    """Return an SVG image of the QR code of ``uri``. It contains no script and no style sheet.

    The background is white: an app cannot read the code in a dark page without one.
    """
    image = io.BytesIO()
    segno.make_qr(uri).save(
        image, kind="svg", scale=4, light="white", xmldecl=False, svgclass=None, lineclass=None
    )
    return image.getvalue().decode()


def encrypt(encryption: Encryption, secret: str, user_id: UUID) -> bytes:
    """Return the ciphertext of a user's secret. Raise ``NoEncryptionKey``."""
    return encryption.encrypt(secret.encode(), purpose=PURPOSE, owner_id=user_id)


def decrypt(encryption: Encryption, ciphertext: bytes, user_id: UUID) -> str:
    """Return the secret of a user. Raise ``DecryptionError``."""
    return encryption.decrypt(ciphertext, purpose=PURPOSE, owner_id=user_id).decode()


async def reencrypt(
    database: Database, encryption: Encryption, show_progress: Callable[[int, int], None]
) -> tuple[int, int]:
    """Encrypt every secret with the current key. Return the numbers of successes and failures.

    Call ``show_progress`` with both numbers after each batch. A secret that cannot be decrypted
    stays as it is. The service may run meanwhile: a secret that changes is not replaced. A second
    run continues an interrupted one. Raise ``NoEncryptionKey``.
    """
    replaced = failed = 0
    after = UUID(int=0)
    while rows := await sql.totp.list_outdated(
        database, key_id=encryption.current_key_id, after=after, limit=BATCH
    ):
        for row in rows:
            try:
                secret = decrypt(encryption, row["secret"], row["user_id"])
            except DecryptionError:
                failed += 1
                continue
            renewed = encrypt(encryption, secret, row["user_id"])
            replaced += (
                await sql.totp.replace_ciphertext(
                    database, id=row["id"], old_secret=row["secret"], new_secret=renewed
                )
                is not None
            )
        show_progress(replaced, failed)
        after = rows[-1]["id"]
    return replaced, failed
