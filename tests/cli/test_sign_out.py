"""Test ``run.py users sign-out`` as a process, beside a service of two processes."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.cli.users import run_on_terminal, run_users
from tests.processes import Process, eventually, serve

NewDatabase = Callable[[], str]
WITHOUT_TERMINAL = (
    "Nothing was done: there is no terminal to ask. Add --yes to sign everybody out.\n"
)


def statuses(service: Process, token: str) -> set[int]:
    """Return the statuses of requests with ``token``, of which each process gets some."""
    return {service.request("GET", "/api/user", token=token)[0] for _ in range(20)}


def count_open(url: str) -> int:
    with psycopg.connect(url) as connection:
        query = "select count(*) from sessions where ended_at is null"
        (count,) = connection.execute(query).fetchone() or (0,)
    return int(count)


def test_sign_out_ends_the_sessions_of_one_user_or_of_everybody(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    url = new_database()
    with serve(tmp_path / "service", DATABASE_URL=url, WEB_CONCURRENCY=2) as service:
        service.wait_until_serving()
        jake, bob, carol = (service.register(name) for name in ("jake", "bob", "carol"))
        for token in (jake, bob, carol):
            assert statuses(service, token) == {200}
        process = run_users(tmp_path / "one", url, "sign-out", "jake")
        assert (process.out, process.err) == ("jake is signed out. Sessions ended: 1.\n", "")
        eventually(lambda: statuses(service, jake) == {401}, "the end of the session")
        assert statuses(service, bob) == {200}
        process = run_users(tmp_path / "refused", url, "sign-out", "--all-users")
        assert (process.wait_for_exit(), process.err) == (2, WITHOUT_TERMINAL)
        assert statuses(service, bob) == {200}
        process = run_users(tmp_path / "all", url, "sign-out", "--all-users", "--yes")
        assert process.wait_for_exit() == 0, process.err
        assert process.out == "Everybody is signed out. Sessions ended: 2.\n"
        assert process.err == ""
        eventually(lambda: statuses(service, bob) == {401}, "the end of the session")
        eventually(lambda: statuses(service, carol) == {401}, "the end of the session")
        assert service.login("bob") == 200
    with psycopg.connect(url) as connection:
        events = connection.execute(
            "select kind, actor from events where actor is not null order by id"
        ).fetchall()
    assert events == [
        ("signed_out_by_administrator", "cli"),
        *[("session_ended", "cli")] * 3,
    ]


@pytest.fixture
def url(new_database: NewDatabase, tmp_path: Path) -> str:
    """Return the URL of a database with two sessions."""
    url = new_database()
    with serve(tmp_path / "service", DATABASE_URL=url) as service:
        service.wait_until_serving()
        service.register("jake")
        service.register("bob")
    return url


def test_sign_out_is_json_for_a_program(url: str, tmp_path: Path) -> None:
    process = run_users(tmp_path / "one", url, "sign-out", "jake@example.test", "--json")
    result = json.loads(process.out)
    assert (len(result.pop("id")), result) == (36, {"sessions_ended": 1})
    process = run_users(tmp_path / "all", url, "sign-out", "--all-users", "--yes", "--json")
    assert (json.loads(process.out), process.err) == ({"sessions_ended": 1}, "")


def test_sign_out_of_everybody_asks_first_and_shows_progress(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "command"
    status, output = run_on_terminal(folder, url, "sign-out", "--all-users", typed="n\n")
    assert (status, count_open(url)) == (1, 2)
    assert "End the sessions of all users? Everybody must log in again. [y/N] " in output
    assert output.endswith("Nothing was done.\n")
    status, output = run_on_terminal(folder, url, "sign-out", "--all-users", typed="y\n")
    assert (status, count_open(url)) == (0, 0), output
    assert "%, sessions ended: 2\n" in output
    assert output.endswith("Everybody is signed out. Sessions ended: 2.\n")


@pytest.mark.parametrize("arguments", [(), ("jake", "--all-users", "--yes")])
def test_sign_out_takes_either_a_user_or_everybody(
    url: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    process = run_users(tmp_path / "command", url, "sign-out", *arguments)
    assert (process.wait_for_exit(), process.err) == (2, "Give either a user or --all-users.\n")
    assert count_open(url) == 2
