"""``run.py keys``: manage the keys of ``ENCRYPTION_KEYS``."""

import sys

from service.accounts.encryption import Encryption
from service.accounts.sessions import key_rotation
from service.accounts.two_factor import totp
from service.cli.database import run_with_database
from service.database.pool import Database
from service.settings.generated_secrets import with_generated_secrets
from service.settings.settings import Settings, SettingsError


def reencrypt(settings: Settings) -> int:
    """Encrypt every secret with the first key of ENCRYPTION_KEYS."""
    encryption = Encryption(with_generated_secrets(settings).encryption_keys)
    if not encryption.is_available:
        raise SettingsError(["ENCRYPTION_KEYS is missing: there is no key to encrypt with."])

    async def work(database: Database) -> tuple[int, int]:
        signing_keys = await key_rotation.reencrypt(database, encryption)
        secrets = await totp.reencrypt(database, encryption, _show_progress)
        return signing_keys[0] + secrets[0], signing_keys[1] + secrets[1]

    replaced, failed = run_with_database(settings, work)
    print(f"Secrets encrypted with the first key of ENCRYPTION_KEYS: {replaced}.")
    if failed:
        print(
            f"Secrets that cannot be decrypted: {failed}. Add their keys to ENCRYPTION_KEYS and "
            "run this command again.",
            file=sys.stderr,
        )
        return 1
    return 0


def _show_progress(replaced: int, failed: int) -> None:
    """Show the progress after a batch."""
    print(f"encrypted {replaced}, failed {failed}", flush=True)
