import stat
import threading
from pathlib import Path

import pytest

from service.settings.generated_secrets import (
    load_or_create_secret,
    with_existing_secrets,
    with_generated_secrets,
)
from service.settings.settings import Settings, SettingsError
from tests.settings.conftest import SECRET


def complete(data_dir: Path) -> Settings:
    """Return embedded settings, completed with the secret of ``data_dir``."""
    return with_generated_secrets(Settings(data_dir=data_dir))


def errors(data_dir: Path) -> list[str]:
    """Return the errors of settings whose secret cannot be created or read."""
    with pytest.raises(SettingsError) as rejected:
        complete(data_dir)
    return rejected.value.errors


def test_secret_is_created_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    first = complete(data_dir)
    assert first.jwt_secret is not None
    assert len(first.jwt_secret) == 64
    (key,) = first.encryption_keys
    assert len(key) == 64
    assert key != first.jwt_secret
    assert complete(data_dir) == first
    assert {path.name for path in data_dir.iterdir()} == {"jwt_secret", "encryption_key"}
    for path in data_dir.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = complete(tmp_path / "other")
    assert other.jwt_secret != first.jwt_secret
    assert other.encryption_keys != first.encryption_keys


def test_given_secrets_are_kept_and_no_file_is_created(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, jwt_secret=SECRET, encryption_keys=(SECRET,))
    assert with_generated_secrets(settings) == settings
    assert list(tmp_path.iterdir()) == []


def test_no_encryption_key_is_generated_when_a_database_is_given(tmp_path: Path) -> None:
    """Its processes may run on several machines, which would generate different keys."""
    settings = Settings(data_dir=tmp_path, database_url="postgresql:///x", jwt_secret=SECRET)
    assert with_generated_secrets(settings) == settings
    assert list(tmp_path.iterdir()) == []


def test_concurrent_starts_read_the_same_secret(tmp_path: Path) -> None:
    barrier = threading.Barrier(16)
    found: list[str] = []

    def start() -> None:
        barrier.wait()
        found.append(load_or_create_secret(tmp_path, "jwt_secret"))

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert set(found) == {(tmp_path / "jwt_secret").read_text()}
    assert [path.name for path in tmp_path.iterdir()] == ["jwt_secret"]


def test_secret_file_of_another_start_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "jwt_secret"
    path.write_text(SECRET)
    # The other start creates the file after this one has looked for it.
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert load_or_create_secret(tmp_path, "jwt_secret") == SECRET
    assert [entry.name for entry in tmp_path.iterdir()] == ["jwt_secret"]


def test_data_folder_that_cannot_be_used_is_one_error(tmp_path: Path) -> None:
    obstacle = tmp_path / "file"
    obstacle.touch()
    assert errors(obstacle) == [
        f"DATA_DIR {obstacle} cannot be used: File exists. Set it to another folder, or set "
        "DATABASE_URL to use a PostgreSQL server."
    ]


def test_invalid_secret_file_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "jwt_secret"
    path.write_text("")
    advice = "python -c 'import secrets; print(secrets.token_urlsafe(48))' makes one"
    assert errors(tmp_path) == [f"The secret in {path} must be at least 32 bytes long; {advice}."]


def test_secret_file_without_read_permission_is_one_error(unprivileged: Path) -> None:
    path = unprivileged / "jwt_secret"
    path.write_text(SECRET)
    path.chmod(0)
    assert errors(unprivileged) == [f"{path} cannot be read: Permission denied."]


def test_secret_file_that_is_a_folder_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "jwt_secret"
    path.mkdir()
    assert errors(tmp_path) == [f"{path} cannot be read: Is a directory."]


def test_secret_file_that_is_not_utf_8_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "jwt_secret"
    path.write_bytes(b"\xff\xfe" * 20)
    assert errors(tmp_path) == [f"{path} cannot be read: it is not UTF-8."]
    assert [entry.name for entry in tmp_path.iterdir()] == ["jwt_secret"]


def test_existing_secrets_are_read_and_none_is_created(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    settings = Settings(data_dir=data_dir)
    assert with_existing_secrets(settings) == settings
    assert not data_dir.exists()
    assert with_existing_secrets(complete(data_dir)) == complete(data_dir)
    assert with_existing_secrets(settings) == complete(data_dir)


def test_folder_of_another_user_is_an_error_and_not_an_empty_folder(unprivileged: Path) -> None:
    data_dir = unprivileged / "data"
    data_dir.mkdir(mode=0o000)
    with pytest.raises(SettingsError, match="cannot be read: Permission denied"):
        with_existing_secrets(Settings(data_dir=data_dir))
    data_dir.chmod(0o700)
