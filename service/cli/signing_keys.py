"""``run.py keys rotate``: replace the key that signs access tokens."""

from functools import partial

from service.accounts.encryption import Encryption
from service.accounts.sessions.access_tokens import ALGORITHM as HS256
from service.accounts.sessions.key_rotation import Rotation
from service.accounts.sessions.key_rotation import rotate as rotate_keys
from service.cli.database import run_with_database
from service.database.pool import Database
from service.settings.generated_secrets import with_generated_secrets
from service.settings.settings import Settings, SettingsError


def rotate(settings: Settings, *, revoke_old: bool) -> int:
    """Replace the key that signs access tokens. No user is signed out."""
    algorithm = settings.token_algorithm if settings.token_algorithm != HS256 else None
    if algorithm is None and not revoke_old:
        raise SettingsError(
            [
                "TOKEN_ALGORITHM is HS256: JWT_SECRET signs the tokens. To replace it, add it to "
                "JWT_PREVIOUS_SECRETS and set a new one."
            ]
        )
    encryption = Encryption(with_generated_secrets(settings).encryption_keys)
    if algorithm is not None and not encryption.is_available:
        raise SettingsError(["ENCRYPTION_KEYS is missing: there is no key to encrypt with."])
    work = partial(rotate_keys, encryption=encryption, algorithm=algorithm, revoke_old=revoke_old)

    async def change(database: Database) -> Rotation:
        return await database.transact(work)

    rotation = run_with_database(settings, change)
    if revoke_old:
        print(f"Removed keys: {rotation.removed}. The tokens that they signed are invalid.")
    if rotation.key_id is not None:
        when = f"in {rotation.signs_in} seconds" if rotation.signs_in else "now"
        print(f"The key {rotation.key_id} is published, and signs {when}.")
    return 0
