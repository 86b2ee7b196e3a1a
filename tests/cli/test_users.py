"""Test ``run.py users`` as a process."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from service.database.migrate import migrate
from tests.processes import RUN, Process, serve

INSERT_USER = """
    insert into users (
        username, username_key, email, email_key, email_verified_at, ever_verified,
        two_factor_since
    )
    values ('jake', 'jake', 'jake@jake.jake', 'jake@jake.jake', now(), true, now())
"""


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    """Return the URL of a database with one account, which has a second factor."""
    url = new_database()
    migrate(url, lambda _: None)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(INSERT_USER)
    return url


def run_users(folder: Path, url: str, name: str, email: str) -> Process:
    """Run the command ``name`` for ``email`` until it exits."""
    command = (*RUN, "users", name, email)
    with serve(folder, command=command, DATABASE_URL=url) as process:
        process.wait_for_exit()
    return process


def test_disable_two_factor_removes_it_and_tells_the_owner(url: str, tmp_path: Path) -> None:
    process = run_users(tmp_path / "1", url, "disable-two-factor", "Jake@jake.jake")
    assert process.wait_for_exit() == 0, process.err
    assert process.out == (
        "The second factor of Jake@jake.jake is off. The owner is told by mail.\n"
    )
    with psycopg.connect(url) as connection:
        (factor,) = connection.execute("select two_factor_since from users").fetchall()
        (mail,) = connection.execute("select recipient, template from outbox").fetchall()
        (event,) = connection.execute("select kind, ip from events").fetchall()
    assert factor == (None,)
    assert mail == ("jake@jake.jake", "two_factor_off")
    assert event == ("two_factor_disabled", None)
    again = run_users(tmp_path / "2", url, "disable-two-factor", "jake@jake.jake")
    assert again.wait_for_exit() == 1
    assert again.err == "jake@jake.jake has no account with a second factor.\n"


@pytest.mark.parametrize(
    ("email", "status", "sentence"),
    [
        ("bob@jake.jake", 1, "bob@jake.jake has no account with a second factor.\n"),
        ("bob", 2, "bob is not a valid email address.\n"),
    ],
)
def test_disable_two_factor_explains_an_unknown_email(
    url: str, tmp_path: Path, email: str, status: int, sentence: str
) -> None:
    process = run_users(tmp_path, url, "disable-two-factor", email)
    assert (process.wait_for_exit(), process.err) == (status, sentence)


def test_lock_and_unlock_change_the_account_once(url: str, tmp_path: Path) -> None:
    runs = [
        ("lock", "The account of Jake@jake.jake is locked. Its sessions have ended.\n"),
        ("lock", "The account of Jake@jake.jake was locked already.\n"),
        ("unlock", "The account of Jake@jake.jake is unlocked.\n"),
        ("unlock", "The account of Jake@jake.jake was not locked.\n"),
    ]
    locks = []
    for number, (name, sentence) in enumerate(runs):
        process = run_users(tmp_path / str(number), url, name, "Jake@jake.jake")
        assert (process.wait_for_exit(), process.out) == (0, sentence), process.err
        with psycopg.connect(url) as connection:
            locks += connection.execute("select locked_at is not null from users").fetchall()
    assert locks == [(True,), (True,), (False,), (False,)]
    with psycopg.connect(url) as connection:
        events = connection.execute("select kind, ip, actor from events order by id").fetchall()
    assert events == [("account_locked", None, "cli"), ("account_unlocked", None, "cli")]


@pytest.mark.parametrize("name", ["lock", "unlock"])
@pytest.mark.parametrize(
    ("email", "status", "sentence"),
    [
        ("bob@jake.jake", 1, "bob@jake.jake has no account.\n"),
        ("bob", 2, "bob is not a valid email address.\n"),
    ],
)
def test_lock_and_unlock_explain_an_unknown_email(
    url: str, tmp_path: Path, name: str, email: str, status: int, sentence: str
) -> None:
    process = run_users(tmp_path, url, name, email)
    assert (process.wait_for_exit(), process.err) == (status, sentence)


def test_import_shows_its_progress_and_its_result(url: str, tmp_path: Path) -> None:
    file = tmp_path / "accounts.jsonl"
    file.write_text('{"username": "bob", "email": "bob@example.test"}\n')
    command = (*RUN, "users", "import", str(file))
    with serve(tmp_path, command=command, DATABASE_URL=url) as process:
        assert process.wait_for_exit() == 0, process.err
    assert process.out == (
        "imported 1, skipped 0\nImported 1 accounts. Skipped 0 whose username or email exists.\n"
    )
    file.write_text("{}\n")
    with serve(tmp_path / "again", command=command, DATABASE_URL=url) as process:
        assert process.wait_for_exit() == 1
    assert process.err.endswith("Nothing was imported.\n")
