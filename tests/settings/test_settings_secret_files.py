"""A secret file that cannot be read is one error."""

from pathlib import Path

import pytest

from service.settings.settings import Settings, SettingsError
from tests.settings.conftest import SECRET


def errors(path: str) -> list[str]:
    """Return the errors of settings with the secret file ``path``."""
    with pytest.raises(SettingsError) as rejected:
        Settings.load({"JWT_SECRET_FILE": path}, env_file=None)
    return rejected.value.errors


def test_file_without_read_permission_is_one_error(unprivileged: Path) -> None:
    path = unprivileged / "secret"
    path.write_text(SECRET)
    path.chmod(0)
    assert errors(str(path)) == [
        f"JWT_SECRET_FILE names {path}, which cannot be read: Permission denied."
    ]


def test_file_with_an_impossible_path_is_one_error() -> None:
    assert errors("a\0b") == [
        "JWT_SECRET_FILE names a\0b, which cannot be read: embedded null byte."
    ]
