"""Test ``run.py users list``, ``show`` and ``export`` as processes."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from service.database.migrate import migrate
from tests.cli.users import INSERT_USER, run_on_terminal, run_users
from tests.processes import RUN, SECRET, serve

HOSTILE = "\x1b[2J\x9b31m\u202ekcaj\x07\n"
"""Clear the screen, change the color, hide text, ring, and begin a line."""


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    """Return the URL of a database with two accounts, of which one has a hostile session."""
    url = new_database()
    migrate(url, lambda _: None)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(INSERT_USER)
        connection.execute(
            "insert into users (username, username_key, email, email_key, locked_at)"
            " values ('bob', 'bob', 'bob@b.test', 'bob@b.test', now())"
        )
        connection.execute(
            "insert into sessions (user_id, expires_at, idle_expires_at, ip, user_agent)"
            " select id, 'infinity', 'infinity', '203.0.113.9', %s from users"
            " where username = 'jake'",
            (HOSTILE,),
        )
        connection.execute(
            "insert into events (user_id, kind, user_agent) select id, 'signed_in', %s from users",
            (HOSTILE,),
        )
    return url


def test_list_is_a_table_for_a_person(url: str, tmp_path: Path) -> None:
    process = run_users(tmp_path / "1", url, "list")
    lines = [line.split("  ") for line in process.out.splitlines()]
    assert [line[0] for line in lines] == ["USERNAME", "bob", "jake"]
    assert process.out.splitlines()[1].endswith("locked, unverified")
    assert process.err == ""
    process = run_users(tmp_path / "2", url, "list", "--limit", "1")
    assert len(process.out.splitlines()) == 2
    place = process.err.removeprefix("There may be more: add --after ").strip()
    process = run_users(tmp_path / "3", url, "list", "--after", place)
    assert [line.split(" ")[0] for line in process.out.splitlines()] == ["USERNAME", "jake"]


def test_list_filters(url: str, tmp_path: Path) -> None:
    for number, (arguments, names) in enumerate(
        [
            (("--search", "JAKE"), ["jake"]),
            (("--search", "b.test"), ["bob"]),
            (("--locked",), ["bob"]),
            (("--unverified",), ["bob"]),
            (("--unverified", "--search", "jake"), []),
        ]
    ):
        process = run_users(tmp_path / str(number), url, "list", "--json", *arguments)
        assert [json.loads(line)["username"] for line in process.out.splitlines()] == names


def test_list_has_a_line_of_json_for_each_user(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into users (username, username_key, email, email_key)"
            " select 'u' || i, 'u' || i, 'u' || i, 'u' || i from generate_series(1, 1200) as i"
        )
    process = run_users(tmp_path, url, "list", "--json")
    users = [json.loads(line) for line in process.out.splitlines()]
    assert len({user["id"] for user in users}) == len(users) == 1202
    assert list(users[0]) == [
        "id", "username", "email", "email_verified_at", "created_at", "locked_at",
        "two_factor_since", "roles",
    ]  # fmt: skip


def test_list_explains_a_wrong_place(url: str, tmp_path: Path) -> None:
    process = run_users(tmp_path, url, "list", "--after", "1\x1b")
    assert (process.wait_for_exit(), process.err) == (2, "1\ufffd is no place in the list.\n")


@pytest.mark.parametrize("limit", ["0", "1001", "x", "-1"])
def test_list_explains_a_wrong_limit(url: str, tmp_path: Path, limit: str) -> None:
    process = run_users(tmp_path, url, "list", f"--limit={limit}")
    assert process.wait_for_exit() == 2
    assert "--limit" in process.err and "Traceback" not in process.err


def test_list_ends_quietly_when_its_reader_ends(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into users (username, username_key, email, email_key)"
            " select 'u' || i, 'u' || i, 'u' || i, 'u' || i from generate_series(1, 2000) as i"
        )
    command = f"'{RUN[0]}' '{RUN[1]}' users list --json; echo $? >&2"
    run = subprocess.run(
        ["sh", "-c", f"({command}) | head -n 1"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "DATABASE_URL": url, "JWT_SECRET": SECRET},
        capture_output=True,
        check=True,
    )
    assert run.stdout.count(b"\n") == 1
    assert run.stderr == b"141\n"


def test_show_describes_a_user_for_a_person(url: str, tmp_path: Path) -> None:
    process = run_users(tmp_path, url, "show", "JAKE")
    assert process.wait_for_exit() == 0, process.err
    lines = process.out.splitlines()
    assert lines[1:3] == ["username    jake", "email       jake@jake.jake"]
    assert "open sessions, the latest used first:" in lines
    assert "latest events:" in lines


@pytest.mark.parametrize("columns", [40, 120])
@pytest.mark.parametrize("arguments", [("show", "jake"), ("show", "jake", "--json"), ("list",)])
def test_no_character_of_a_user_controls_the_terminal(
    url: str, tmp_path: Path, arguments: tuple[str, ...], columns: int
) -> None:
    status, output = run_on_terminal(tmp_path, url, *arguments, columns=columns)
    assert status == 0, output
    assert all(character.isprintable() or character == "\n" for character in output)
    if "--json" not in arguments:
        assert all(len(line) <= columns for line in output.splitlines())
    assert "jake" in output


def test_show_is_one_document_of_json_for_a_program(url: str, tmp_path: Path) -> None:
    process = run_users(tmp_path, url, "show", "jake@jake.jake", "--json")
    user = json.loads(process.out)
    assert [session["user_agent"] for session in user["sessions"]] == [HOSTILE]
    assert [event["user_agent"] for event in user["events"]] == [HOSTILE]
    assert user["sign_in_methods"] == {"password": False, "passkeys": [], "identities": []}


@pytest.mark.parametrize("arguments", [("show", "bob"), ("show", "bob", "--json"), ("list",)])
def test_output_in_another_encoding_is_no_error(
    url: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("update users set username = 'b\u00f6b' where username = 'bob'")
    command = (*RUN, "users", *arguments)
    with serve(tmp_path, command=command, DATABASE_URL=url, PYTHONIOENCODING="ascii") as process:
        assert (process.wait_for_exit(), process.err) == (0, "")
    if "--json" in arguments:
        assert json.loads(process.out)["username"] == "b\u00f6b"
    else:
        assert "b?b" in process.out


def test_export_is_that_of_the_user_and_is_logged(url: str, tmp_path: Path) -> None:
    process = run_users(tmp_path, url, "export", "jake")
    document = json.loads(process.out)
    assert document["account"]["username"] == "jake"
    assert [session["user_agent"] for session in document["sessions"]] == [HOSTILE]
    assert list(document) == [
        "account", "sessions", "events", "known_ips", "links", "passkeys", "identities",
        "following", "articles", "comments", "favorites",
    ]  # fmt: skip
    with psycopg.connect(url) as connection:
        events = connection.execute("select actor from events where kind = 'exported'").fetchall()
    assert events == [("cli",)]


@pytest.mark.parametrize("name", ["show", "export"])
def test_unknown_user_is_one_sentence(url: str, tmp_path: Path, name: str) -> None:
    process = run_users(tmp_path, url, name, "nobody\x1b")
    assert (process.wait_for_exit(), process.out, process.err) == (
        1,
        "",
        "No account has the email, the username or the id nobody\ufffd.\n",
    )
