"""Test ``run.py keys create``, ``keys list`` and ``keys revoke`` as processes."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from service.database.migrate import migrate
from tests.processes import RUN, Process, serve


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    url = new_database()
    migrate(url, lambda _: None)
    return url


def run_keys(folder: Path, url: str, *arguments: str) -> Process:
    """Run the command until it exits."""
    with serve(folder, command=(*RUN, "keys", *arguments), DATABASE_URL=url) as process:
        process.wait_for_exit()
    return process


def test_key_is_created_listed_and_revoked(url: str, tmp_path: Path) -> None:
    scopes = ("--scope", "users:read", "--scope", "events:read")
    created = run_keys(tmp_path / "1", url, "create", "--name", "backoffice", *scopes)
    assert created.wait_for_exit() == 0, created.err
    assert created.err == "The key backoffice is created. It is shown only now:\n"
    assert created.out.startswith("conduit_key_") and created.out.count("\n") == 1
    listed = run_keys(tmp_path / "2", url, "list")
    header, line = listed.out.splitlines()
    assert header.split() == ["NAME", "SCOPES", "CREATED", "LAST", "USED", "REVOKED"]
    assert re.fullmatch(
        r"backoffice  events:read users:read  \d{4}-\d\d-\d\d \d\d:\d\d  never      never", line
    )
    revoked = run_keys(tmp_path / "3", url, "revoke", "backoffice")
    assert (revoked.wait_for_exit(), revoked.out) == (0, "The key backoffice is revoked.\n")
    again = run_keys(tmp_path / "4", url, "revoke", "backoffice")
    assert (again.wait_for_exit(), again.out) == (0, "The key backoffice was revoked already.\n")
    item = json.loads(run_keys(tmp_path / "5", url, "list", "--json").out)
    assert list(item) == ["name", "scopes", "created_at", "last_used_at", "revoked_at"]
    assert item["revoked_at"].endswith("Z")


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("create", "--name", "cli", "--scope", "users:read"), 2, "The name of a key consists"),
        (("create", "--name", "a", "--scope", "users"), 2, "There is no scope 'users'."),
        (("create", "--name", "a"), 2, "usage: "),
        (("revoke", "backoffice"), 1, "No key has the name backoffice.\n"),
    ],
)
def test_command_explains_what_is_wrong(
    url: str, tmp_path: Path, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    process = run_keys(tmp_path, url, *arguments)
    assert process.wait_for_exit() == status
    assert process.err.startswith(sentence)
