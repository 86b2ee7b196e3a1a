"""Generate the secrets that the embedded server needs, and keep them in its data folder.

``Settings.load`` only reads. A command that needs a secret calls ``with_generated_secrets``.
"""

import contextlib
import os
import secrets
from dataclasses import replace
from pathlib import Path

from service.settings import parsers
from service.settings.settings import Settings, SettingsError, read_text

JWT_SECRET, ENCRYPTION_KEY = "jwt_secret", "encryption_key"  # The names of the files.
BYTES = 48  # Random bytes of a secret. HS256 needs at least 32 (RFC 7518, section 3.2).


def with_generated_secrets(settings: Settings) -> Settings:
    """Return ``settings`` with every secret that was not given. Create it at the first call.

    Raise ``SettingsError`` if a secret cannot be created or read, or is invalid.
    """
    if settings.jwt_secret is None:
        secret = load_or_create_secret(settings.data_dir, JWT_SECRET)
        settings = replace(settings, jwt_secret=secret)
    if settings.embedded and not settings.encryption_keys:
        key = load_or_create_secret(settings.data_dir, ENCRYPTION_KEY)
        settings = replace(settings, encryption_keys=(key,))
    return settings


def with_existing_secrets(settings: Settings) -> Settings:
    """Return ``settings`` with the secrets that an earlier start has generated. Create none.

    Raise ``SettingsError`` if one of them cannot be read, or is invalid.
    """
    folder = settings.data_dir
    try:
        has_secret, has_key = ((folder / name).exists() for name in (JWT_SECRET, ENCRYPTION_KEY))
    except OSError as error:
        message = f"DATA_DIR {folder} cannot be read: {error.strerror}."
        raise SettingsError([message]) from error
    if settings.jwt_secret is None and has_secret:
        settings = replace(settings, jwt_secret=_load(folder / JWT_SECRET))
    if settings.embedded and not settings.encryption_keys and has_key:
        settings = replace(settings, encryption_keys=(_load(folder / ENCRYPTION_KEY),))
    return settings


def load_or_create_secret(data_dir: Path, name: str) -> str:
    """Return the secret in the file ``name`` in ``data_dir``. Create the file if it does not exist.

    Only the owner can read the file. Raise ``SettingsError`` if the file cannot be created or read,
    or if its content is invalid.
    """
    path = data_dir / name
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
    except OSError as error:
        message = (
            f"DATA_DIR {data_dir} cannot be used: {error.strerror}. Set it to another folder, or "
            "set DATABASE_URL to use a PostgreSQL server."
        )
        raise SettingsError([message]) from error
    return _load(path)


def _load(path: Path) -> str:
    try:
        return parsers.secret(_read(path))
    except ValueError as error:
        raise SettingsError([f"The secret in {path} {error}."]) from error


def _create(path: Path) -> None:
    """Create a secret at ``path``. Keep the secret of another process that was faster."""
    # Write a draft, then link it: a crash leaves no partial secret, and two processes that start
    # simultaneously both read the secret that was linked first.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(BYTES))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()


def _read(path: Path) -> str:
    try:
        return read_text(path)
    except ValueError as error:
        raise SettingsError([f"{path} cannot be read: {error}."]) from error
