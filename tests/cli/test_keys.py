"""Test ``run.py keys reencrypt`` as a process."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from service.accounts.encryption import Encryption
from service.accounts.two_factor import totp
from service.database.migrate import migrate
from tests.processes import RUN, Process, serve

OLD, NEW = "old-key-of-at-least-32-random-bytes", "new-key-of-at-least-32-random-bytes"
INSERT_USER = """
    insert into users (username, username_key, email, email_key)
    values ('jake', 'jake', 'jake@example.test', 'jake@example.test')
    returning id
"""


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    """Return the URL of a database with one secret, which the old key has encrypted."""
    url = new_database()
    migrate(url, lambda _: None)
    with psycopg.connect(url, autocommit=True) as connection:
        ((user_id,),) = connection.execute(INSERT_USER).fetchall()
        secret = totp.encrypt(Encryption([OLD]), "the secret", user_id)
        values = (user_id, secret)
        connection.execute("insert into totp_secrets (user_id, secret) values (%s, %s)", values)
    return url


def reencrypt(folder: Path, url: str, keys: str) -> Process:
    """Run the command with ``keys`` until it exits."""
    command = (*RUN, "keys", "reencrypt")
    with serve(folder, command=command, DATABASE_URL=url, ENCRYPTION_KEYS=keys) as process:
        process.wait_for_exit()
    return process


def test_reencrypt_uses_the_first_key_and_reports_its_progress(url: str, tmp_path: Path) -> None:
    process = reencrypt(tmp_path, url, f"{NEW},{OLD}")
    assert process.wait_for_exit() == 0, process.err
    assert process.out == (
        "encrypted 1, failed 0\nSecrets encrypted with the first key of ENCRYPTION_KEYS: 1.\n"
    )
    with psycopg.connect(url) as connection:
        ((user_id, secret),) = connection.execute("select user_id, secret from totp_secrets")
    assert totp.decrypt(Encryption([NEW]), secret, user_id) == "the secret"


def test_reencrypt_fails_when_a_key_is_missing(url: str, tmp_path: Path) -> None:
    process = reencrypt(tmp_path / "without-old", url, NEW)
    assert process.wait_for_exit() == 1
    assert process.err == (
        "Secrets that cannot be decrypted: 1. Add their keys to ENCRYPTION_KEYS and run this "
        "command again.\n"
    )
    process = reencrypt(tmp_path / "without-any", url, "")
    assert process.wait_for_exit() == 2
    assert process.err == "ENCRYPTION_KEYS is missing: there is no key to encrypt with.\n"


def test_keys_without_a_command_is_rejected_with_exit_status_2(tmp_path: Path) -> None:
    with Process((*RUN, "keys"), tmp_path, {}) as process:
        assert process.wait_for_exit() == 2
        assert "the following arguments are required: command" in process.err
