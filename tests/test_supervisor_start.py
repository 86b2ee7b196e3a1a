"""Starting the service: what it says, and what it says when it cannot."""

import contextlib
import os
import pty
import re
import shlex
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from service.database import migrate as migration
from tests.postgres import OwnPostgres
from tests.processes import RUN, SECRET, Process, eventually, free_port, needs_proc, serve

NewDatabase = Callable[[], str]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    """A server to stop and start."""
    with OwnPostgres(tmp_path_factory.mktemp("postgres") / "data") as server:
        yield server


def one_sentence(text: str) -> str:
    """``text``, which must be one line that a person can act on."""
    assert text.count("\n") == 1 and "Traceback" not in text, text
    return text


def refused(process: Process) -> str:
    """What ``process`` said in one sentence when it ended with status 1."""
    assert process.status() == 1, process.out + process.err
    return one_sentence(process.err)


def test_the_first_start_needs_nothing_and_says_what_it_does(tmp_path: Path) -> None:
    with serve(tmp_path, command=RUN) as service:
        service.serving()
        messages = [line["message"] for line in service.log()]
        assert any(message.startswith("Creating the database in") for message in messages)
        assert "Migrating the database: 0001_accounts" in messages
        assert messages[-1] == f"Listening on http://localhost:{service.port}"
        assert service.request("GET", "/health") == (200, {"status": "ok", "database": "connected"})
        token = service.register("jake")
        assert service.login("jake") == 200
        assert service.request("GET", "/api/user", token=token)[0] == 200
        service.send(signal.SIGTERM)
        assert service.status() == 0
        assert service.err == ""


def test_every_line_of_the_log_is_json_and_no_secret_is_in_it(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    with serve(tmp_path, DATABASE_URL=new_database()) as service:
        token = service.serving().register("jake")
        service.login("jake")
        wrong = {"email": "x@example.test", "password": "hush"}
        service.request("POST", "/api/users/login", {"user": wrong})
        service.request("GET", f"/nowhere?token={token}")
        service.says("/api/users/login")
        lines = service.log()
        assert all({"time", "level"} <= set(line) for line in lines)
        for secret in (SECRET, token, "jake-secret", "hush", "$2b$", "@example.test"):
            assert secret not in service.out + service.err


def test_terminal_shows_plain_lines_and_ends_with_urls_and_how_to_stop(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    text = ""

    def shown() -> str:
        nonlocal text
        with contextlib.suppress(BlockingIOError):
            text += os.read(ours, 65536).decode()
        return text

    run = f"exec {shlex.join(RUN)} > {os.ttyname(theirs)}"
    try:
        with serve(tmp_path, command=("sh", "-c", run), DATABASE_URL=new_database()) as service:
            eventually(lambda: "Ctrl+C" in shown(), "the start")
            url = f"http://localhost:{service.port}"
            assert text.splitlines()[-3:] == [
                f"Listening on {url}",
                f"Documentation: {url}/docs",
                "Press Ctrl+C to stop.",
            ]
            assert service.request("GET", "/health")[0] == 200
            line = re.compile(r"^200 GET /health [\d.]+ ms", re.MULTILINE)
            eventually(lambda: line.search(shown()), "the line of the request")
            assert '{"' not in text
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_second_start_over_one_folder_leaves_the_first_alone(tmp_path: Path) -> None:
    with serve(tmp_path) as first:
        first.serving()
        with serve(tmp_path / "second", DATA_DIR=first.data_dir) as second:
            sentence = refused(second)
        assert f"in use by process {first.pid}" in sentence and "DATA_DIR" in sentence
        first.register("jake")


@needs_proc
def test_a_taken_port_ends_the_start_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with serve(tmp_path, PORT=port, WEB_CONCURRENCY=2) as service:
            assert (
                refused(service) == f"Port {port} is taken: stop what listens there, or set PORT.\n"
            )
            assert service.left() == []
            assert not (service.data_dir / "postgres").exists()


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b"])
def test_a_foreign_host_is_named(tmp_path: Path, host: str) -> None:
    with serve(tmp_path, HOST=host) as service:
        assert refused(service) == f"HOST {host} is not an address of this machine.\n"


def test_an_address_of_ip_version_6_is_shown_as_a_url(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with serve(tmp_path, HOST="::1", DATABASE_URL=new_database()) as service:
        service.says(f"http://[::1]:{service.port}")


def test_an_unknown_database_or_user_is_told_at_once(tmp_path: Path, server_url: str) -> None:
    nowhere = re.sub(r"/\w+(\?|$)", r"/nowhere\1", server_url)
    nobody = re.sub(r"//([^@/]*@)?", "//nobody:hush@", server_url)
    for command, url, reason in (
        ("serve", nowhere, '"nowhere" does not exist'),
        ("migrate", nobody, "nobody"),
    ):
        with serve(tmp_path, command=(*RUN, command), DATABASE_URL=url) as service:
            sentence = refused(service)
        assert sentence.startswith("The database cannot be reached: ")
        assert reason in sentence and "hush" not in sentence
        assert "Waiting" not in service.out


def test_a_wrong_password_is_told_at_once(tmp_path: Path, postgres: OwnPostgres) -> None:
    rules = postgres.folder / "postgres" / "pg_hba.conf"
    open_to_all = rules.read_text()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("create role guarded login password 'right'")
        rules.write_text(f"local all guarded scram-sha-256\n{open_to_all}")
        connection.execute("select pg_reload_conf()")
    for credentials in ("guarded:wrong", "guarded"):
        url = re.sub(r"//[^@]*@", f"//{credentials}@", postgres.url)
        with serve(tmp_path, DATABASE_URL=url) as service:
            assert "password" in refused(service) and "wrong" not in service.err
            assert "Waiting" not in service.out


def test_a_user_without_rights_is_told_what_to_grant(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    url = new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop role if exists without_rights")
        connection.execute("create role without_rights login password 'x'")
    weak = re.sub(r"//([^@/]*@)?", "//without_rights:x@", url)
    with serve(tmp_path, DATABASE_URL=weak) as service:
        assert "GRANT CREATE ON SCHEMA public TO without_rights" in refused(service)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop role without_rights")


@pytest.mark.parametrize("command", ["serve", "migrate", "seed"])
def test_a_database_of_a_newer_version_ends_the_start(
    tmp_path: Path, new_database: NewDatabase, command: str
) -> None:
    url = new_database()
    migration.migrate(url, lambda _: None)
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into _yoyo_migration values ('a hash', '9999_from_the_future', now())"
        )
    with serve(tmp_path, command=(*RUN, command), DATABASE_URL=url) as service:
        sentence = refused(service)
        assert "newer version of this service, which applied 9999_from_the_future:" in sentence


def test_what_libpq_refuses_in_a_url_is_told_without_the_password(tmp_path: Path) -> None:
    for url, reason in (
        ("postgresql://jake:hu%sh@localhost/x", "invalid percent-encoded"),
        ("postgresql://jake:hu%25sh@localhost/x?colour=red", '"colour"'),
    ):
        with serve(tmp_path, DATABASE_URL=url) as service:
            sentence = refused(service)
            assert reason in sentence and "sh@" not in sentence and "hu%" not in sentence


def test_a_server_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "CONNECT_TIMEOUT", 0.1)
    url = f"postgresql://jake:hush@127.0.0.1:{free_port()}/x"
    said: list[str] = []
    with pytest.raises(migration.MigrationError, match="Connection refused$"):
        migration.migrate(url, said.append)
    assert said == ["Waiting for the database to accept connections ..."]


def test_a_server_that_starts_later_is_waited_for(tmp_path: Path, postgres: OwnPostgres) -> None:
    postgres.stop()
    with serve(tmp_path, DATABASE_URL=postgres.url) as service:
        service.says("Waiting for the database to accept connections")
        postgres.start()
        service.serving().register("jake")
