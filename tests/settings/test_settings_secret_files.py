"""A file with a secret in it that cannot be read ends the start with one sentence."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings.settings import Settings, SettingsError

SECRET = "fdIbzyCcQKIdGhUkxEVrQnCoZ0hAYw7kNUAs"
NOBODY = 65534


def sentences(**environment: str) -> list[str]:
    """What the settings say when they are refused."""
    with pytest.raises(SettingsError) as refused:
        Settings.load(environment, env_file=None)
    return refused.value.sentences


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of an ordinary user, as whom the test goes on where root would read anything."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, NOBODY, -1)
        os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_kept_secret_without_read_permission_is_one_sentence(unprivileged: Path) -> None:
    path = unprivileged / "jwt_secret"
    path.write_text(SECRET)
    path.chmod(0)
    assert sentences(DATA_DIR=str(unprivileged)) == [f"{path} cannot be read: Permission denied."]


def test_kept_secret_that_is_a_folder_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "jwt_secret"
    path.mkdir()
    assert sentences(DATA_DIR=str(tmp_path)) == [f"{path} cannot be read: Is a directory."]


def test_kept_secret_that_is_not_utf_8_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "jwt_secret"
    path.write_bytes(b"\xff\xfe" * 20)
    assert sentences(DATA_DIR=str(tmp_path)) == [f"{path} cannot be read: it is not UTF-8."]
    assert [entry.name for entry in tmp_path.iterdir()] == ["jwt_secret"]


def test_file_without_read_permission_is_one_sentence(unprivileged: Path) -> None:
    path = unprivileged / "secret"
    path.write_text(SECRET)
    path.chmod(0)
    assert sentences(JWT_SECRET_FILE=str(path)) == [
        f"JWT_SECRET_FILE names {path}, which cannot be read: Permission denied."
    ]


def test_path_that_no_file_can_have_is_one_sentence() -> None:
    assert sentences(JWT_SECRET_FILE="a\0b") == [
        "JWT_SECRET_FILE names a\0b, which cannot be read: embedded null byte."
    ]
