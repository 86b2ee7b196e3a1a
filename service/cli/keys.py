"""``run.py keys``: manage the keys of ``ENCRYPTION_KEYS``."""

import sys

from service.accounts.encryption import Encryption
from service.accounts.two_factor import totp
from service.cli.database import run_with_database
from service.database.pool import Database
from service.settings.generated_secrets import with_generated_secrets
from service.settings.settings import Settings, SettingsError


def reencrypt(settings: Settings) -> int:
    """Encrypt every TOTP secret with the first key of ENCRYPTION_KEYS."""
    encryption = Encryption(with_generated_secrets(settings).encryption_keys)
    if not encryption.is_available:
        raise SettingsError(["ENCRYPTION_KEYS is missing: there is no key to encrypt with."])

    async def work(database: Database) -> tuple[int, int]:
        return await totp.reencrypt(database, encryption, _show_progress)

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
