"""Test ``run.py keys rotate`` as a process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.accounts.encryption import Encryption
from service.accounts.sessions.signing_keys import decrypt
from service.database.migrate import migrate
from tests.processes import RUN, account, eventually, serve

KEY = "encrypts: at least 32 random bytes"
ASYMMETRIC = {
    "TOKEN_ALGORITHM": "EdDSA",
    "ENCRYPTION_KEYS": KEY,
    "BASE_URL": "https://accounts.example.org",
}


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    url = new_database()
    migrate(url, lambda _: None)
    return url


def rotate(folder: Path, url: str, *arguments: str, **settings: str) -> tuple[int, str]:
    """Run the command until it exits. Return the exit status and its output."""
    command = (*RUN, "keys", "rotate", *arguments)
    with serve(folder, command=command, DATABASE_URL=url, **settings) as process:
        status = process.wait_for_exit()
    return status, process.out + process.err


def keys_of(url: str) -> list[Any]:
    """Return the id, the private key and the delay of each key. The newest comes first."""
    query = """
        select id, private_key, extract(epoch from signs_at - created_at)::integer
        from signing_keys order by signs_at desc
    """
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def test_rotate_publishes_a_key_before_it_signs(url: str, tmp_path: Path) -> None:
    result = rotate(tmp_path / "1", url, **ASYMMETRIC)
    ((first, private, delay),) = keys_of(url)
    assert result == (0, f"The key {first} is published, and signs now.\n")
    assert delay == 0
    decrypt(Encryption([KEY]), private, first)
    result = rotate(tmp_path / "2", url, **ASYMMETRIC)
    ((second, _, delay), _) = keys_of(url)
    assert result == (0, f"The key {second} is published, and signs in 600 seconds.\n")
    assert delay == 600
    status, text = rotate(tmp_path / "3", url, **ASYMMETRIC)
    assert (status, text.startswith(f"The key {second} is new: it signs in ")) == (1, True)
    assert len(keys_of(url)) == 2


def test_rotate_removes_the_old_keys_when_asked(url: str, tmp_path: Path) -> None:
    assert rotate(tmp_path / "1", url, **ASYMMETRIC)[0] == 0
    assert rotate(tmp_path / "2", url, **ASYMMETRIC)[0] == 0
    result = rotate(tmp_path / "3", url, "--revoke-old", **ASYMMETRIC)
    ((new, _, delay),) = keys_of(url)
    assert delay == 0
    assert result == (
        0,
        "Removed keys: 2. The tokens that they signed are invalid.\n"
        f"The key {new} is published, and signs now.\n",
    )
    result = rotate(tmp_path / "4", url, "--revoke-old")
    assert result == (0, "Removed keys: 1. The tokens that they signed are invalid.\n")
    assert keys_of(url) == []


def test_rotate_explains_a_wrong_setting(url: str, tmp_path: Path) -> None:
    assert rotate(tmp_path / "1", url) == (
        2,
        "TOKEN_ALGORITHM is HS256: JWT_SECRET signs the tokens. To replace it, add it to "
        "JWT_PREVIOUS_SECRETS and set a new one.\n",
    )
    status, text = rotate(tmp_path / "2", url, **{**ASYMMETRIC, "ENCRYPTION_KEYS": ""})
    assert (status, text.startswith("ENCRYPTION_KEYS is missing: ")) == (2, True)
    assert keys_of(url) == []


def test_rotation_beside_the_service_keeps_every_session(url: str, tmp_path: Path) -> None:
    settings = {**ASYMMETRIC, "DATABASE_URL": url}
    with serve(tmp_path / "service", WEB_CONCURRENCY=2, **settings) as service:
        service.wait_until_serving()
        status, body = service.request("POST", "/api/users", account("jake"))
        assert status == 200
        token = body["user"]["token"]
        assert rotate(tmp_path / "1", url, **ASYMMETRIC)[0] == 0
        # Each request may reach another worker.
        for _ in range(10):
            assert service.request("GET", "/api/user", token=token)[0] == 200
        assert rotate(tmp_path / "2", url, "--revoke-old", **ASYMMETRIC)[0] == 0

        def is_rejected_by_all() -> bool:
            statuses = {service.request("GET", "/api/user", token=token)[0] for _ in range(10)}
            return statuses == {401}

        eventually(is_rejected_by_all, "every worker rejects the token")
        given = {"refresh_token": body["refresh_token"]}
        status, body = service.request("POST", "/api/auth/refresh", given)
        assert status == 200
        for _ in range(10):
            assert service.request("GET", "/api/user", token=body["access_token"])[0] == 200
