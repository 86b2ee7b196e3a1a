"""Test ``run.py users roles`` as a process."""

from collections.abc import Callable
from pathlib import Path

import jwt
import psycopg
import pytest

from service.database.migrate import migrate
from tests.processes import RUN, eventually, serve

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


def test_roles_change_in_every_worker_beside_the_service(url: str, tmp_path: Path) -> None:
    with serve(tmp_path / "service", DATABASE_URL=url, WEB_CONCURRENCY=2) as service:
        service.wait_until_serving()
        token = service.register("alice")

        def have_new_tokens(roles: list[str]) -> bool:
            """Return whether ten new tokens have these roles. Each may be of another worker."""
            found = []
            for _ in range(10):
                status, body = service.request("GET", "/api/user", token=token)
                assert status == 200
                claims = jwt.decode(body["user"]["token"], options={"verify_signature": False})
                found.append(claims.get("roles", []))
            return all(each == roles for each in found)

        assert have_new_tokens([])
        assert run_roles(tmp_path / "1", url, "alice@example.test", "--add", "editor")[0] == 0
        eventually(lambda: have_new_tokens(["editor"]), "the role in every worker")
        assert run_roles(tmp_path / "2", url, "alice@example.test", "--remove", "editor")[0] == 0
        eventually(lambda: have_new_tokens([]), "no role in any worker")
