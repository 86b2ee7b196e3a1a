"""Test ``run.py users roles`` as a process."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from service.database.migrate import migrate
from tests.processes import RUN, serve

INSERT_USER = """
    insert into users (username, username_key, email, email_key)
    values ('jake', 'jake', 'jake@jake.jake', 'jake@jake.jake')
"""


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    """Return the URL of a database with one account."""
    url = new_database()
    migrate(url, lambda _: None)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(INSERT_USER)
    return url


def run_roles(folder: Path, url: str, *arguments: str) -> tuple[int, str]:
    """Run the command until it exits. Return the exit status and its output."""
    command = (*RUN, "users", "roles", *arguments)
    with serve(folder, command=command, DATABASE_URL=url) as process:
        status = process.wait_for_exit()
    return status, process.out + process.err


def test_command_shows_adds_and_removes_roles(url: str, tmp_path: Path) -> None:
    runs = [
        ((), "none"),
        (("--add", "moderator", "--add", "editor"), "editor, moderator"),
        (("--add", "admin", "--remove", "editor", "--remove", "unknown"), "admin, moderator"),
        ((), "admin, moderator"),
    ]
    for number, (changes, roles) in enumerate(runs):
        result = run_roles(tmp_path / str(number), url, "Jake@jake.jake", *changes)
        assert result == (0, f"The roles of Jake@jake.jake: {roles}.\n")
    with psycopg.connect(url) as connection:
        events = connection.execute("select kind, ip from events").fetchall()
    assert events == [("roles_changed", None)] * 2


@pytest.mark.parametrize(
    ("arguments", "status", "start"),
    [
        (["bob", "--add", "editor"], 1, "No account has the email, the username or the id bob."),
        (["jake@jake.jake", "--add", "Editor"], 2, "The roles must have 1 to 50 characters: "),
        (["jake@jake.jake", "--add", ""], 2, "The roles must have 1 to 50 characters: "),
    ],
)
def test_command_explains_wrong_arguments(
    url: str, tmp_path: Path, arguments: list[str], status: int, start: str
) -> None:
    result = run_roles(tmp_path, url, *arguments)
    assert result[0] == status
    assert result[1].startswith(start)
