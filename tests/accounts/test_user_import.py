"""Import accounts with the password hashes of other systems."""

import json
import os
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.accounts import user_import
from service.accounts.user_import import UserImportError, import_users
from service.database.pool import DATABASE
from tests.accounts.passwords.hashes import ABSURD, HASHES, PASSWORD
from tests.conftest import Client


def write(path: Path, accounts: list[Any]) -> Path:
    file = path / "accounts.jsonl"
    file.write_text("".join(f"{json.dumps(account)}\n" for account in accounts), encoding="utf-8")
    return file


def account(number: int, **fields: Any) -> dict[str, Any]:
    return {"username": f"user{number}", "email": f"user{number}@example.test", **fields}


async def run(client: Client, file: Path) -> tuple[int, int]:
    app = client.http.app
    assert app is not None
    progress: list[tuple[int, int]] = []
    result = await import_users(app[DATABASE], file, lambda *counts: progress.append(counts))
    assert progress[-1] == result
    return result


@pytest.mark.parametrize("hashed", HASHES.values(), ids=HASHES)
async def test_imported_password_works_and_is_renewed_at_the_first_login(
    client: Client, db: asyncpg.Connection, tmp_path: Path, hashed: str
) -> None:
    assert await run(client, write(tmp_path, [account(1, password_hash=hashed)])) == (1, 0)
    wrong = {"user": {"email": "user1@example.test", "password": "wrong"}}
    assert (await client.post("/api/users/login", wrong)).status == 401
    right = {"user": {"email": "User1@example.test", "password": PASSWORD}}
    assert (await client.post("/api/users/login", right)).status == 200
    assert (await db.fetchval("select password_hash from users")).startswith("$2b$04$")
    assert (await client.post("/api/users/login", right)).status == 200


async def test_import_keeps_what_is_known(
    client: Client, db: asyncpg.Connection, tmp_path: Path
) -> None:
    known = {
        "email_verified": True,
        "bio": "I rock",
        "image": "https://example.test/a.png",
        "created_at": "2020-02-03T04:05:06Z",
    }
    await run(client, write(tmp_path, [account(1, **known), account(2)]))
    first, second = await db.fetch("select * from users order by username")
    assert (first["bio"], first["image"]) == ("I rock", "https://example.test/a.png")
    assert first["created_at"].isoformat() == "2020-02-03T04:05:06+00:00"
    assert (first["email_verified_at"] is not None, first["ever_verified"]) == (True, True)
    assert (second["email_verified_at"], second["ever_verified"]) == (None, False)
    assert second["password_hash"] is None


async def test_import_can_be_run_again(
    client: Client, db: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_import, "BATCH", 3)
    file = write(tmp_path, [account(number) for number in range(10)])
    assert await run(client, file) == (10, 0)
    more = write(tmp_path, [account(number) for number in range(12)])
    assert await run(client, more) == (2, 10)
    twice = write(tmp_path, [account(20), account(20), account(21, username="USER20")])
    assert await run(client, twice) == (1, 2)
    assert await db.fetchval("select count(*) from users") == 13


FAULTY: dict[str, Any] = {
    "no email": {"username": "jake"},
    "bad email": {"username": "jake", "email": "jake"},
    "short username": {"username": "j", "email": "jake@jake.jake"},
    "flag": account(1, email_verified="yes"),
    "time": account(1, created_at="yesterday"),
    "number as hash": account(1, password_hash=7),
    "list": ["jake"],
    "time without UTC": account(1, created_at="9999-12-31T23:59:59-10:00"),
    "nul": account(1, bio="a\0b"),
    **{name: account(1, password_hash=hashed) for name, hashed in ABSURD.items()},
}


@pytest.mark.parametrize("line", FAULTY.values(), ids=FAULTY)
async def test_faulty_line_is_named_and_nothing_is_imported(
    client: Client, db: asyncpg.Connection, tmp_path: Path, line: Any
) -> None:
    with pytest.raises(UserImportError) as raised:
        await run(client, write(tmp_path, [account(0), line]))
    message = str(raised.value)
    assert message.startswith("Line 2 ") and message.endswith("Nothing was imported.")
    assert "$" not in message
    assert await db.fetchval("select count(*) from users") == 0


async def test_file_that_is_no_json_or_missing_is_refused(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "accounts.jsonl"
    with pytest.raises(UserImportError, match="cannot be read"):
        await run(client, file)
    file.write_bytes(b"{}x\n" + b"x" * 70_000 + b"\n\xff\n")
    with pytest.raises(UserImportError) as raised:
        await run(client, file)
    assert "Line 1 is not JSON." in str(raised.value)
    assert "has more than 65536 bytes" in str(raised.value)


async def test_line_after_a_long_one_has_its_own_number(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "accounts.jsonl"
    file.write_bytes(b"x" * 300_000 + b"\n" + b" " * 300_000 + b"{}\n[]\n")
    with pytest.raises(UserImportError) as raised:
        await run(client, file)
    assert str(raised.value).splitlines() == [
        "Line 1 has more than 65536 bytes.",
        "Line 2 has more than 65536 bytes.",
        "Line 3 is no object.",
        "Nothing was imported.",
    ]


async def test_pipe_is_refused(client: Client, tmp_path: Path) -> None:
    """It can be read once, and the file is read twice."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserImportError, match="is no regular file"):
        await run(client, tmp_path / "pipe")


async def test_backslash_before_u0000_is_no_nul(client: Client, tmp_path: Path) -> None:
    assert await run(client, write(tmp_path, [account(1, bio=r"a \u0000 b")])) == (1, 0)


async def test_at_most_twenty_faulty_lines_are_reported(client: Client, tmp_path: Path) -> None:
    with pytest.raises(UserImportError) as raised:
        await run(client, write(tmp_path, [{}] * 100))
    assert str(raised.value).count("Line ") == 20
