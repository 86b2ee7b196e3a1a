"""Test the check of the secrets."""

import os
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.accounts.encryption import Encryption
from service.doctor.findings import Status
from service.doctor.secret_check import age_finding, check_secrets, encryption_findings
from tests.doctor.checks import messages, problems, run_check

OLD, NEW, LOST = (f"{name}-key-of-at-least-32-random-bytes" for name in ("old", "new", "lost"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_age_is_that_of_the_file_of_a_secret(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "secret"
    path.write_text(OLD)
    monkeypatch.setenv("JWT_SECRET_FILE", str(path))
    past = path.stat().st_mtime - 40 * 86_400 - 60
    os.utime(path, (past, past))
    text = messages(await run_check(check_secrets, database_url="postgresql:///x"))
    assert f"JWT_SECRET: {path} was last changed 40 days ago" in text
    assert "ENCRYPTION_KEYS: its age is unknown" in text


async def test_env_file_that_every_user_can_read_is_a_problem(folder: Path) -> None:
    path = folder / ".env"
    path.write_text(f"JWT_SECRET={OLD}\n")
    path.chmod(0o644)
    findings = await run_check(check_secrets, database_url="postgresql:///x")
    assert problems(findings) == ["every user of this machine can read .env"]
    path.chmod(0o600)
    assert problems(await run_check(check_secrets, database_url="postgresql:///x")) == []


async def test_generated_secrets_of_the_embedded_server_have_an_age(folder: Path) -> None:
    (folder / "jwt_secret").write_text(OLD)
    text = messages(await run_check(check_secrets, data_dir=folder))
    assert f"JWT_SECRET: {folder}/jwt_secret was last changed 0 days ago" in text
    assert "cannot be read: No such file" in text


async def test_former_signing_keys_are_noted(folder: Path) -> None:
    findings = await run_check(check_secrets, data_dir=folder, jwt_previous_secrets=(OLD, NEW))
    assert "former signing keys still verify: 2" in messages(findings)


@pytest.mark.parametrize(("days", "status"), [(729.0, Status.OK), (731.0, Status.NOTE)])
def test_old_secret_is_noted(days: float, status: Status) -> None:
    finding = age_finding("JWT_SECRET", "was made", days, "keys rotate")
    assert finding.status is status
    assert (finding.action == "make a new one: keys rotate") is (status is Status.NOTE)


async def test_age_of_the_signing_key_is_shown(
    db: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    await db.execute(
        "insert into signing_keys (id, algorithm, public_key, private_key, created_at, signs_at)"
        " values (gen_random_uuid(), 'ES256', '', $1, now() - interval '3 days', now()),"
        " (gen_random_uuid(), 'ES256', '', $1, now(), now() + interval '1 hour')",
        key_id(NEW),
    )
    try:
        settings: dict[str, Any] = {"data_dir": folder, "encryption_keys": (NEW,)}
        text = messages(
            await run_check(check_secrets, database_url, token_algorithm="ES256", **settings)
        )
        assert "signing key for ES256: was made 3 days ago" in text
        assert "reads all 2 stored secrets" in text
        text = messages(await run_check(check_secrets, database_url, **settings))
        assert "signing key for" not in text
    finally:
        await db.execute("delete from signing_keys")


def key_id(key: str) -> bytes:
    return Encryption([key]).current_key_id


@pytest.mark.parametrize(
    ("keys", "counts", "expected"),
    [
        ((), {}, [(Status.NOTE, "ENCRYPTION_KEYS is not set")]),
        ((NEW,), {key_id(NEW): 3}, [(Status.OK, "reads all 3 stored secrets")]),
        ((NEW, OLD), {key_id(OLD): 2}, [(Status.NOTE, "former encryption key still encrypts: 2")]),
        ((NEW,), {key_id(LOST): 1}, [(Status.PROBLEM, "without their key: 1")]),
        ((), {key_id(LOST): 1}, [(Status.PROBLEM, "without their key: 1")]),
        (
            (NEW, OLD),
            {key_id(OLD): 2, key_id(LOST): 1},
            [(Status.PROBLEM, "without their key: 1"), (Status.NOTE, "still encrypts: 2")],
        ),
    ],
)
def test_stored_secrets_need_their_keys(
    keys: tuple[str, ...], counts: dict[bytes, int], expected: list[tuple[Status, str]]
) -> None:
    findings = encryption_findings(keys, counts)
    assert [finding.status for finding in findings] == [status for status, _ in expected]
    for finding, (_, words) in zip(findings, expected, strict=True):
        assert words in finding.message


async def test_stored_secrets_are_counted_in_the_database(
    db: asyncpg.Connection, database_url: str, folder: Path
) -> None:
    user_id = await db.fetchval(
        "insert into users (username, username_key, email, email_key)"
        " values ('jake', 'jake', 'jake@example.test', 'jake@example.test') returning id"
    )
    secret = Encryption([OLD]).encrypt(b"x", purpose="totp", owner_id=user_id)
    await db.execute("insert into totp_secrets (user_id, secret) values ($1, $2)", user_id, secret)
    findings = await run_check(check_secrets, database_url, data_dir=folder, encryption_keys=(NEW,))
    assert problems(findings) == ["stored secrets without their key: 1"]
    unreachable = "postgresql://u@127.0.0.1:1/x"
    assert "cannot be read" in messages(await run_check(check_secrets, unreachable))
