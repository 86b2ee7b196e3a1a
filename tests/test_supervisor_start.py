"""Test the messages of a start, and the one sentence of a start that fails."""

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
    """Start a PostgreSQL server that the tests of this module stop and start."""
    with OwnPostgres(tmp_path_factory.mktemp("postgres") / "data") as server:
        yield server


def one_sentence(text: str) -> str:
    """Return ``text``. Fail unless it is one line without a traceback."""
    assert text.count("\n") == 1 and "Traceback" not in text, text
    return text


def start_error(process: Process) -> str:
    """Return the one sentence with which ``process`` exits. Fail unless its status is 1."""
    assert process.wait_for_exit() == 1, process.out + process.err
    return one_sentence(process.err)


def test_first_start_needs_no_settings_and_reports_its_steps(tmp_path: Path) -> None:
    with serve(tmp_path, command=RUN) as service:
        service.wait_until_serving()
        messages = [line["message"] for line in service.log()]
        assert any(message.startswith("Creating the database in") for message in messages)
        assert "Migrating the database: 0001_accounts" in messages
        assert messages[-1] == f"Listening on http://localhost:{service.port}"
        assert service.request("GET", "/health") == (200, {"status": "ok", "database": "connected"})
        token = service.register("jake")
        assert service.login("jake") == 200
        assert service.request("GET", "/api/user", token=token)[0] == 200
        service.send(signal.SIGTERM)
        assert service.wait_for_exit() == 0
        assert service.err == ""


def test_start_on_a_server_warns_once_when_no_mail_is_sent(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    message = "mails are printed, SMTP_URL is not set"
    url = new_database()
    with serve(tmp_path / "printing", DATABASE_URL=url, WEB_CONCURRENCY=2) as service:
        lines = service.wait_until_serving().log()
        assert [line["level"] for line in lines if line["message"] == message] == ["warning"]
    mail = {
        "SMTP_URL": "smtp://127.0.0.1:1",
        "MAIL_FROM": "us@example.org",
        "BASE_URL": "https://example.org",
    }
    with serve(tmp_path / "sending", DATABASE_URL=url, **mail) as service:
        assert message not in service.wait_until_serving().out
    with serve(tmp_path / "embedded") as service:
        assert message not in service.wait_until_serving().out


def test_log_lines_are_json_without_secrets(tmp_path: Path, new_database: NewDatabase) -> None:
    # No server listens there. Without SMTP_URL the log would contain the mails.
    mail = {
        "SMTP_URL": f"smtp://jake:smtp-hush@127.0.0.1:{free_port()}",
        "MAIL_FROM": "accounts@service.test",
        "BASE_URL": "http://service.test",
    }
    with serve(tmp_path, DATABASE_URL=new_database(), **mail) as service:
        token = service.wait_until_serving().register("jake")
        service.login("jake")
        wrong = {"email": "x@example.test", "password": "hush"}
        service.request("POST", "/api/users/login", {"user": wrong})
        service.request("GET", f"/nowhere?token={token}")
        service.wait_for_output("/api/users/login")
        service.wait_for_output("mail delivery delayed")
        lines = service.log()
        assert all({"time", "level"} <= set(line) for line in lines)
        for secret in (SECRET, token, "jake-secret", "hush", "$2b$", "@example.test"):
            assert secret not in service.out + service.err


def test_terminal_shows_plain_lines_and_ends_with_urls_and_how_to_stop(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    own_end, service_end = pty.openpty()
    os.set_blocking(own_end, False)
    text = ""

    def shown() -> str:
        nonlocal text
        with contextlib.suppress(BlockingIOError):
            text += os.read(own_end, 65536).decode()
        return text

    run = f"exec {shlex.join(RUN)} > {os.ttyname(service_end)}"
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
        os.close(own_end)
        os.close(service_end)


def test_second_start_with_the_same_data_folder_fails(tmp_path: Path) -> None:
    with serve(tmp_path) as first:
        first.wait_until_serving()
        with serve(tmp_path / "second", DATA_DIR=first.data_dir) as second:
            sentence = start_error(second)
        assert f"in use by process {first.pid}" in sentence and "DATA_DIR" in sentence
        first.register("jake")


@needs_proc
def test_embedded_postgresql_that_cannot_start_stops_the_start(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        service.wait_until_serving()
    (service.data_dir / "postgres" / "postgresql.auto.conf").write_text("work_mem = 'a lot'\n")
    with serve(tmp_path) as service:
        sentence = start_error(service)
        assert "stopped while starting" in sentence and "work_mem" in sentence
        eventually(lambda: not service.remaining_processes(), "the end of all its processes")


@needs_proc
def test_port_in_use_stops_the_start_before_it_creates_files(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other_program:
        port = other_program.getsockname()[1]
        with serve(tmp_path, PORT=port, WEB_CONCURRENCY=2) as service:
            assert (
                start_error(service) == f"Port {port} is in use: stop that program, or set PORT.\n"
            )
            assert service.remaining_processes() == []
            assert not (service.data_dir / "postgres").exists()


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b"])
def test_host_of_another_machine_stops_the_start(tmp_path: Path, host: str) -> None:
    with serve(tmp_path, HOST=host) as service:
        assert start_error(service) == f"HOST {host} is not an address of this machine.\n"


def test_ipv6_host_is_shown_as_a_url(tmp_path: Path, new_database: NewDatabase) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with serve(tmp_path, HOST="::1", DATABASE_URL=new_database()) as service:
        service.wait_for_output(f"http://[::1]:{service.port}")


def test_unknown_database_or_user_stops_the_start_at_once(tmp_path: Path, server_url: str) -> None:
    nowhere = re.sub(r"/\w+(\?|$)", r"/nowhere\1", server_url)
    nobody = re.sub(r"//([^@/]*@)?", "//nobody:hush@", server_url)
    for command, url, reason in (
        ("serve", nowhere, '"nowhere" does not exist'),
        ("migrate", nobody, "nobody"),
    ):
        with serve(tmp_path, command=(*RUN, command), DATABASE_URL=url) as service:
            sentence = start_error(service)
        assert sentence.startswith("The database cannot be reached: ")
        assert reason in sentence and "hush" not in sentence
        assert "Waiting" not in service.out


def test_wrong_password_stops_the_start_at_once(tmp_path: Path, postgres: OwnPostgres) -> None:
    rules = postgres.folder / "postgres" / "pg_hba.conf"
    trust_all = rules.read_text()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("create role guarded login password 'right'")
        rules.write_text(f"local all guarded scram-sha-256\n{trust_all}")
        connection.execute("select pg_reload_conf()")
    for credentials in ("guarded:wrong", "guarded"):
        url = re.sub(r"//[^@]*@", f"//{credentials}@", postgres.url)
        with serve(tmp_path, DATABASE_URL=url) as service:
            assert "password" in start_error(service) and "wrong" not in service.err
            assert "Waiting" not in service.out


def test_error_names_the_missing_grant_when_the_user_lacks_rights(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    url = new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop role if exists without_rights")
        connection.execute("create role without_rights login password 'x'")
    url_without_rights = re.sub(r"//([^@/]*@)?", "//without_rights:x@", url)
    with serve(tmp_path, DATABASE_URL=url_without_rights) as service:
        assert "GRANT CREATE ON SCHEMA public TO without_rights" in start_error(service)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop role without_rights")


@pytest.mark.parametrize("command", ["serve", "migrate", "seed"])
def test_database_of_a_newer_version_stops_the_start(
    tmp_path: Path, new_database: NewDatabase, command: str
) -> None:
    url = new_database()
    migration.migrate(url, lambda _: None)
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into _yoyo_migration values ('a hash', '9999_from_the_future', now())"
        )
    with serve(tmp_path, command=(*RUN, command), DATABASE_URL=url) as service:
        sentence = start_error(service)
        assert "newer version of this service, which applied 9999_from_the_future:" in sentence


def test_error_about_a_malformed_url_does_not_show_the_password(tmp_path: Path) -> None:
    for url, reason in (
        ("postgresql://jake:hu%sh@localhost/x", "invalid percent-encoded"),
        ("postgresql://jake:hu%25sh@localhost/x?colour=red", '"colour"'),
    ):
        with serve(tmp_path, DATABASE_URL=url) as service:
            sentence = start_error(service)
            assert reason in sentence and "sh@" not in sentence and "hu%" not in sentence


def test_start_fails_when_the_server_stays_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "CONNECT_TIMEOUT", 0.1)
    url = f"postgresql://jake:hush@127.0.0.1:{free_port()}/x"
    messages: list[str] = []
    with pytest.raises(migration.MigrationError, match="Connection refused$"):
        migration.migrate(url, messages.append)
    assert messages == ["Waiting for the database to accept connections ..."]


def test_start_waits_for_a_server_that_starts_later(tmp_path: Path, postgres: OwnPostgres) -> None:
    postgres.stop()
    with serve(tmp_path, DATABASE_URL=postgres.url) as service:
        service.wait_for_output("Waiting for the database to accept connections")
        postgres.start()
        service.wait_until_serving().register("jake")
