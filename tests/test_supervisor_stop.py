"""Test that a stop finishes running requests and leaves no process and no file behind."""

import contextlib
import http.client
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import COUNT_BLOCKED
from tests.pgbouncer import without_pgbouncer
from tests.postgres import OwnPostgres
from tests.processes import (
    ROOT,
    RUN,
    Process,
    account,
    eventually,
    needs_proc,
    read_response,
    send_and_read,
    send_request,
    serve,
)

pytestmark = needs_proc

NewDatabase = Callable[[], str]
STOP_SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture(scope="module")
def stopped_server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a stopped server."""
    with OwnPostgres(tmp_path_factory.mktemp("postgres") / "data") as server:
        server.stop()
        yield server.url


def begin_slow_login(
    service: Process, connection: http.client.HTTPConnection, name: str = "jake"
) -> None:
    """Send a login, and return when the service has started to process it."""
    send_and_read(connection, "GET", "/health")  # The connection is accepted.
    send_request(connection, "POST", "/api/users/login", account(name))
    # This request arrived after the login, so the login has been read, too.
    assert service.request("GET", "/health")[0] == 200


@contextlib.contextmanager
def hanging_request(service: Process) -> Iterator[socket.socket]:
    """Send a request without its body. Inside the ``with`` block the service waits for the body."""
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(
            b"POST /api/users HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        )
        # The response to Expect shows that the request has started.
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        yield client


def is_port_closed(port: int) -> bool:
    """Return whether no process listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return True
    return False


def test_running_request_finishes_after_a_signal(tmp_path: Path) -> None:
    with serve(tmp_path, BCRYPT_COST=13) as service:
        service.wait_until_serving().register("jake")
        with service.connection() as connection:
            begin_slow_login(service, connection)
            service.send(signal.SIGTERM)
            status, body = read_response(connection)
            assert status == 200 and body["user"]["username"] == "jake"
        assert service.wait_for_exit() == 0
        assert service.remaining_processes() == []
        assert service.err == ""


def test_new_connections_are_rejected_during_the_drain(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    with serve(tmp_path, DATABASE_URL=new_database(), SHUTDOWN_TIMEOUT=3600) as service:
        service.wait_until_serving()
        with hanging_request(service):
            service.send(signal.SIGTERM)
            eventually(lambda: is_port_closed(service.port), "the end of listening")
            assert len(service.workers()) == 1
        assert service.wait_for_exit() == 0


def test_more_signals_during_the_drain_have_no_effect(tmp_path: Path) -> None:
    with serve(tmp_path, BCRYPT_COST=13) as service:
        service.wait_until_serving().register("jake")
        with service.connection() as connection:
            begin_slow_login(service, connection)
            service.send(signal.SIGTERM)
            eventually(lambda: is_port_closed(service.port), "the end of listening")
            os.killpg(service.pid, signal.SIGINT)  # A terminal sends it to the workers, too.
            os.killpg(service.pid, signal.SIGTERM)
            service.send(signal.SIGHUP)
            assert read_response(connection)[0] == 200
        assert service.wait_for_exit() == 0
        assert service.remaining_processes() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_idle_connections_do_not_delay_the_stop(
    tmp_path: Path, new_database: NewDatabase, number: signal.Signals
) -> None:
    settings: dict[str, Any] = {"WEB_CONCURRENCY": 2, "SHUTDOWN_TIMEOUT": 3600}
    with serve(tmp_path, DATABASE_URL=new_database(), **settings) as service:
        service.wait_until_serving()
        with service.connection() as used, service.connection() as unused:
            send_and_read(used, "GET", "/health")
            unused.connect()
            service.send(number)
            assert service.wait_for_exit() == 0


@without_pgbouncer
@pytest.mark.parametrize("seconds", [0, 1])
def test_hanging_request_is_aborted_after_the_shutdown_timeout(
    tmp_path: Path, new_database: NewDatabase, seconds: int
) -> None:
    url = new_database()
    with serve(tmp_path, DATABASE_URL=url, SHUTDOWN_TIMEOUT=seconds) as service:
        service.wait_until_serving()
        with hanging_request(service) as client:
            service.send(signal.SIGTERM)
            assert service.wait_for_exit() == 0
            # The worker exited by itself and closed its connections.
            assert client.recv(1000) == b""
        # PostgreSQL ends the process behind a closed connection a moment later.
        connections = (
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        with psycopg.connect(url, autocommit=True) as observer:
            eventually(
                lambda: observer.execute(connections).fetchone() == (0,),
                "the end of the connections",
            )
        assert service.remaining_processes() == []
        assert "exception" not in service.out + service.err


def test_hanging_statement_is_aborted_after_the_shutdown_timeout(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    url = new_database()
    with serve(tmp_path, DATABASE_URL=url, SHUTDOWN_TIMEOUT=0) as service:
        token = service.wait_until_serving().register("jake")
        with psycopg.connect(url) as blocker, service.connection() as connection:
            blocker.execute("lock table users")
            send_request(connection, "GET", "/api/user", token=token)
            with psycopg.connect(url, autocommit=True) as observer:
                eventually(
                    lambda: observer.execute(COUNT_BLOCKED).fetchone() != (0,),
                    "the statement to wait",
                )
                service.send(signal.SIGTERM)
                assert service.wait_for_exit() == 0
                eventually(
                    lambda: observer.execute(COUNT_BLOCKED).fetchone() == (0,),
                    "the end of the statement",
                )
        assert service.remaining_processes() == []


@pytest.mark.parametrize(
    ("words", "number"),
    [("Creating the database", signal.SIGTERM), ("Migrating the database", signal.SIGINT)],
)
def test_signal_during_the_start_stops_it_cleanly(
    tmp_path: Path, words: str, number: signal.Signals
) -> None:
    with serve(tmp_path) as service:
        service.wait_for_output(words)
        service.send(number)
        assert service.wait_for_exit() == 0
        assert service.err == ""
        eventually(lambda: not service.remaining_processes(), "the end of all its processes")
    with serve(tmp_path) as again:
        again.wait_until_serving().register("jake")
        assert not list(service.data_dir.glob("postgres.new-*"))


def test_interrupt_is_raised_again_when_python_drops_it(tmp_path: Path) -> None:
    program = """if True:
        import os, signal, time
        from service.signals import interruptible, block_signals

        class Finalized:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0)

        block_signals()
        try:
            with interruptible():
                Finalized()
                print("dropped")
                time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted")
        """
    command = (sys.executable, "-c", program)
    with Process(command, tmp_path, {"PYTHONPATH": str(ROOT)}) as process:
        assert process.wait_for_exit() == 0
        assert process.out == "dropped\ninterrupted\n"
        assert process.err == ""


def test_signal_ends_the_wait_for_a_database(tmp_path: Path, stopped_server_url: str) -> None:
    for command, number, status in (
        ("serve", signal.SIGTERM, 0),
        ("serve", signal.SIGINT, 0),
        ("migrate", signal.SIGTERM, 130),
    ):
        with serve(tmp_path, command=(*RUN, command), DATABASE_URL=stopped_server_url) as service:
            service.wait_for_output("Waiting for the database to accept connections")
            service.send(number)
            assert service.wait_for_exit() == status
            assert "Traceback" not in service.err


def test_hangup_is_ignored_under_nohup(tmp_path: Path, new_database: NewDatabase) -> None:
    with serve(tmp_path, command=("nohup", *RUN), DATABASE_URL=new_database()) as service:
        service.wait_until_serving()
        service.send(signal.SIGHUP)
        service.register("jake")
        service.send(signal.SIGTERM)
        assert service.wait_for_exit() == 0


@pytest.mark.parametrize("restarted", [False, True], ids=["started", "restarted"])
def test_postgresql_inherits_no_signal_mask_or_socket(tmp_path: Path, restarted: bool) -> None:
    with serve(tmp_path) as service:
        service.wait_until_serving()
        if restarted:  # Now a parent that blocks its signals starts it.
            os.kill(min(set(service.children()) & set(service.postgres())), signal.SIGKILL)
            service.wait_for_output("embedded postgresql exited, starting it again")
            eventually(lambda: service.request("GET", "/health")[0] == 200, "the recovery")
        for pid in service.postgres():
            status = Path(f"/proc/{pid}/status").read_text()
            blocked = int(status.split("SigBlk:")[1].split()[0], 16)
            for number in (*STOP_SIGNALS, signal.SIGCHLD, signal.SIGQUIT):
                assert not blocked >> number - 1 & 1, f"{number.name} is blocked in {pid}"
            held = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
            listening = {f"socket:[{inode}]" for inode in sockets_on(service.port)}
            assert listening and not held & listening


def sockets_on(port: int) -> set[str]:
    """Return the inodes of the sockets that listen on a port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
