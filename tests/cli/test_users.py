"""Test ``run.py users`` as a process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.database.migrate import migrate
from tests.cli.users import INSERT_USER, run_on_terminal, run_users
from tests.processes import RUN, serve


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    """Return the URL of a database with one account, which has a second factor."""
    url = new_database()
    migrate(url, lambda _: None)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(INSERT_USER)
    return url


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
    assert again.err == "The account of jake@jake.jake has no second factor.\n"


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


def test_acts_are_json_for_a_program(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url) as connection:
        (row,) = connection.execute("select id::text from users").fetchall()
    (user_id,) = row
    acts: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("lock", "jake"), {"changed": True}),
        (("lock", user_id), {"changed": False}),
        (("unlock", "jake"), {"changed": True}),
        (("verify", "jake"), {"changed": False, "email": "jake@jake.jake"}),
        (("reset", "jake"), {"email": "jake@jake.jake"}),
        (("disable-two-factor", "jake"), {"changed": True}),
        (("delete", "jake", "--yes"), {"changed": True}),
    ]
    for number, (arguments, fields) in enumerate(acts):
        process = run_users(tmp_path / str(number), url, *arguments, "--json")
        assert json.loads(process.out) == {"id": user_id, **fields}
        assert (process.wait_for_exit(), process.err) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [("lock",), ("unlock",), ("verify",), ("reset",), ("delete", "--yes"), ("disable-two-factor",)],
)
def test_unknown_user_is_one_sentence(url: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    process = run_users(tmp_path, url, *arguments, "bob")
    assert (process.wait_for_exit(), process.out, process.err) == (
        1,
        "",
        "No account has the email, the username or the id bob.\n",
    )


def test_ambiguous_name_is_refused_with_both_ids(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into users (username, username_key, email, email_key)"
            " values ('jake@jake.jake', 'jake@jake.jake', 'm@x.test', 'm@x.test')"
        )
        ids = connection.execute("select id::text from users order by email").fetchall()
    process = run_users(tmp_path / "1", url, "delete", "jake@jake.jake", "--yes")
    (victim,), (stranger,) = ids
    assert process.wait_for_exit() == 1
    assert process.err == (
        f"jake@jake.jake is the email of {victim} and the username of {stranger}: give the id.\n"
    )
    assert run_users(tmp_path / "2", url, "lock", victim).wait_for_exit() == 0


def test_verify_and_reset_say_what_they_did(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("update users set email_verified_at = null")
    for number, sentence in enumerate(
        [
            "The email jake@jake.jake is verified.\n",
            "The email jake@jake.jake was verified already.\n",
        ]
    ):
        assert run_users(tmp_path / str(number), url, "verify", "jake").out == sentence
    assert run_users(tmp_path / "reset", url, "reset", "jake").out == (
        "The service mails a link to jake@jake.jake. The password and the sessions stay until the "
        "owner uses it.\n"
    )
    assert run_users(tmp_path / "revoke", url, "reset", "jake", "--revoke-password").out == (
        "The service mails a link to jake@jake.jake. The password no longer works, and all "
        "sessions have ended.\n"
    )
    with psycopg.connect(url) as connection:
        mails = connection.execute("select recipient, template from outbox").fetchall()
        events = connection.execute("select kind, actor from events order by id").fetchall()
    assert mails == [("jake@jake.jake", "reset_password")] * 2
    assert events == [
        ("email_verified", "cli"),
        ("password_reset_requested", "cli"),
        ("password_revoked", "cli"),
        ("password_reset_requested", "cli"),
    ]


def test_reset_of_a_locked_account_is_refused(url: str, tmp_path: Path) -> None:
    run_users(tmp_path / "lock", url, "lock", "jake")
    process = run_users(tmp_path / "reset", url, "reset", "jake")
    assert (process.wait_for_exit(), process.err) == (
        1,
        "The account of jake is locked, so a link would not work: unlock it first.\n",
    )


def test_delete_without_a_terminal_is_refused(url: str, tmp_path: Path) -> None:
    process = run_users(tmp_path, url, "delete", "jake")
    assert (process.wait_for_exit(), process.err) == (
        2,
        "Nothing was done: there is no terminal to ask. Add --yes to delete the account.\n",
    )
    with psycopg.connect(url) as connection:
        assert connection.execute("select username from users").fetchall() == [("jake",)]


@pytest.mark.parametrize("typed", ["\n", "n\n", "no\n", "delete\n", "\x04"])
def test_delete_asks_first(url: str, tmp_path: Path, typed: str) -> None:
    status, output = run_on_terminal(tmp_path, url, "delete", "jake", typed=typed)
    assert (status, output.endswith("Nothing was deleted.\n")) == (1, True), output
    with psycopg.connect(url) as connection:
        assert connection.execute("select username from users").fetchall() == [("jake",)]


def test_delete_ends_the_account_when_the_operator_agrees(url: str, tmp_path: Path) -> None:
    status, output = run_on_terminal(tmp_path, url, "delete", "JAKE", typed="Y\n", columns=200)
    assert status == 0, output
    assert "Delete the account jake (jake@jake.jake), registered " in output
    assert output.endswith(
        "The account jake is deleted. The service removes its content within minutes.\n"
    )
    with psycopg.connect(url) as connection:
        assert connection.execute("select username from users").fetchall() == [(None,)]
        events = connection.execute("select kind, actor from events").fetchall()
    assert events == [("account_deleted", "cli")]


def test_import_shows_its_progress_and_its_result(url: str, tmp_path: Path) -> None:
    file = tmp_path / "accounts.jsonl"
    file.write_text('{"username": "bob", "email": "bob@example.test"}\n')
    command = (*RUN, "users", "import", str(file))
    with serve(tmp_path, command=command, DATABASE_URL=url) as process:
        assert process.wait_for_exit() == 0, process.err
    assert process.out == (
        "imported 1, skipped 0\nImported 1 accounts. Skipped 0 whose username or email exists.\n"
    )
    with serve(tmp_path / "json", command=(*command, "--json"), DATABASE_URL=url) as process:
        assert process.wait_for_exit() == 0, process.err
    assert json.loads(process.out) == {"imported": 0, "skipped": 1}
    file.write_text("{}\n")
    with serve(tmp_path / "again", command=command, DATABASE_URL=url) as process:
        assert process.wait_for_exit() == 1
    assert process.err.endswith("Nothing was imported.\n")
