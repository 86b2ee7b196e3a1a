"""Test that a reload loses no request, and that a broken version leaves the running one."""

import contextlib
import fcntl
import http.client
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import (
    ROOT,
    RUN,
    Process,
    eventually,
    free_port,
    heed_signals,
    needs_proc,
    read_response,
    send_and_read,
    send_request,
    serve,
)
from tests.test_supervisor_stop import begin_slow_login

pytestmark = needs_proc

NewDatabase = Callable[[], str]


def reloads(service: Process) -> int:
    """Return how often a new version has taken over."""
    return service.out.count('"reloaded: ')


def reload(service: Process) -> None:
    """Reload the service, and wait until the new version serves."""
    before = reloads(service)
    service.send(signal.SIGHUP)
    eventually(lambda: reloads(service) > before, "the reload")


def wait_for_failed_reload(service: Process, reason: str) -> None:
    """Reload the service, and wait for the log line that says why it goes on."""
    service.send(signal.SIGHUP)
    service.wait_for_output("reload failed, the running version goes on")
    last = [line for line in service.log() if "reload failed" in line.get("message", "")][-1]
    assert reason in last["message"] and last["level"] == "error"


class Load:
    """Clients that send requests until ``stop``: some keep their connection, some open others."""

    def __init__(self, service: Process, token: str) -> None:
        self._service = service
        self._token = token
        self._is_stopped = threading.Event()
        self.failures: list[str] = []
        self.counts = {"kept": 0, "closed": 0, "new": 0}
        targets = (self._keep_alive, self._keep_alive, self._reconnect)
        self._threads = [threading.Thread(target=target) for target in targets]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop all clients."""
        self._is_stopped.set()
        for thread in self._threads:
            thread.join()

    def _keep_alive(self) -> None:
        while not self._is_stopped.is_set():
            with self._service.connection() as connection:
                while not self._is_stopped.is_set() and self._send(connection):
                    self.counts["kept"] += 1
                self.counts["closed"] += 1

    def _reconnect(self) -> None:
        while not self._is_stopped.is_set():
            with self._service.connection() as connection:
                self._send(connection)
                self.counts["new"] += 1

    def _send(self, connection: http.client.HTTPConnection) -> bool:
        """Send a request. Return whether the connection stays open."""
        try:
            send_request(connection, "GET", "/api/user", token=self._token)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(repr(error))
            return False
        if response.status != 200:
            self.failures.append(str(response.status))
        return not response.will_close


@contextlib.contextmanager
def load(service: Process) -> Iterator[Load]:
    """Send requests inside the ``with`` block."""
    running = Load(service, service.register("jake"))
    try:
        yield running
    finally:
        running.stop()


def test_no_request_fails_during_three_reloads(tmp_path: Path) -> None:
    with serve(tmp_path, WEB_CONCURRENCY=2) as service:
        postgres = min(service.wait_until_serving().postgres())
        with load(service) as clients:
            for _ in range(3):
                before = service.workers()
                reload(service)
                eventually(lambda: not set(before) & set(service.workers()), "the end of the old")  # noqa: B023
        assert clients.failures == []
        assert min(clients.counts.values()) > 0
        assert len(service.workers()) == 2
        assert postgres in service.postgres()
        service.send(signal.SIGTERM)
        assert service.wait_for_exit() == 0
        assert service.remaining_processes() == []
        assert service.err == ""


def test_running_request_finishes_during_a_reload(tmp_path: Path) -> None:
    with serve(tmp_path, BCRYPT_COST=13) as service:
        service.wait_until_serving().register("jake")
        with service.connection() as connection:
            begin_slow_login(service, connection)
            reload(service)
            assert read_response(connection)[0] == 200
        service.send(signal.SIGTERM)
        assert service.wait_for_exit() == 0


def test_idle_connection_of_the_old_version_serves_one_more_request(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    with serve(tmp_path, DATABASE_URL=new_database()) as service:
        (old,) = service.wait_until_serving().workers()
        with service.connection() as connection:
            send_and_read(connection, "GET", "/health")
            reload(service)
            send_request(connection, "GET", "/health")
            response = connection.getresponse()
            assert response.status == 200 and response.headers["Connection"] == "close"
        eventually(lambda: old not in service.workers(), "the end of the old worker")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a folder with a copy of the service, which a test may break."""
    folder = tmp_path / "program"
    folder.mkdir()
    for name in ("service", "sql", "migrations"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "run.py", folder)
    return folder


def test_broken_version_leaves_the_running_one_in_place(
    tmp_path: Path, program: Path, new_database: NewDatabase
) -> None:
    command = (sys.executable, str(program / "run.py"), "serve")
    url = new_database()
    with serve(tmp_path / "data", command=command, DATABASE_URL=url) as service:
        service.wait_until_serving()
        workers = service.workers()
        app = program / "service/app.py"
        text = app.read_text()
        app.write_text(text + "\nthis is no Python\n")
        wait_for_failed_reload(service, "SyntaxError")
        assert service.workers() == workers
        assert service.request("GET", "/health")[0] == 200
        # The same program loads again, and shows that its code is new.
        app.write_text(text)
        home = program / "service/__init__.py"
        home.write_text(home.read_text().replace("__version__ = ", '__version__ = "9.9.9"  # '))
        reload(service)

        def version() -> str:
            return str(service.request("GET", "/openapi.json")[1]["info"]["version"])

        # The former worker accepts connections until it has received the signal.
        eventually(lambda: version() == "9.9.9", "a response of the new version")


def test_failed_migration_leaves_the_running_version_in_place(
    tmp_path: Path, program: Path, new_database: NewDatabase
) -> None:
    command = (sys.executable, str(program / "run.py"), "serve")
    url = new_database()
    with serve(tmp_path / "data", command=command, DATABASE_URL=url) as service:
        service.wait_until_serving()
        (program / "migrations/9999_wrong.sql").write_text("select nonsense from nowhere")
        wait_for_failed_reload(service, "cannot be migrated")
        assert service.request("GET", "/health")[0] == 200


def test_settings_are_read_again(tmp_path: Path, new_database: NewDatabase) -> None:
    with serve(tmp_path, DATABASE_URL=new_database()) as service:
        service.wait_until_serving().register("jake")
        (tmp_path / ".env").write_text("PASSWORD_MIN_LENGTH=many\n")
        wait_for_failed_reload(service, "PASSWORD_MIN_LENGTH")
        assert service.login("jake") == 200
        (tmp_path / ".env").write_text("REALWORLD_STRICT=true\n")
        reload(service)
        eventually(lambda: service.request("POST", "/api/users", {})[0] == 422, "the new setting")


def test_other_port_or_host_is_refused(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        service.wait_until_serving()
        (tmp_path / ".env").write_text("HOST=127.0.0.1\n")
        wait_for_failed_reload(service, "HOST, PORT, METRICS_HOST and METRICS_PORT cannot change")
        assert service.request("GET", "/health")[0] == 200


def test_change_from_the_embedded_server_is_refused(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    with serve(tmp_path, BCRYPT_COST=10) as service:
        service.wait_until_serving()
        url = f"DATABASE_URL={new_database()}\n"
        (tmp_path / ".env").write_text(url + "JWT_SECRET=another secret, 32 bytes and more\n")
        wait_for_failed_reload(service, "The embedded database and DATA_DIR cannot change")
        assert service.request("GET", "/health")[0] == 200


def test_number_of_workers_changes_with_a_reload(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        service.wait_until_serving().register("jake")
        for count in (3, 2, 1):
            (tmp_path / ".env").write_text(f"WEB_CONCURRENCY={count}\n")
            reload(service)
            eventually(lambda: len(service.workers()) == count, "the number of workers")  # noqa: B023
            for _ in range(20):  # The kernel distributes them to all sockets.
                assert service.request("GET", "/health")[0] == 200


def test_sockets_of_former_workers_are_served(tmp_path: Path, new_database: NewDatabase) -> None:
    url = new_database()
    (tmp_path / ".env").write_text("WEB_CONCURRENCY=3\n")
    with serve(tmp_path, DATABASE_URL=url) as service:
        service.wait_until_serving()
        (tmp_path / ".env").write_text("WEB_CONCURRENCY=2\n")
        reload(service)
        eventually(lambda: len(service.workers()) == 2, "the end of the former workers")
        for _ in range(40):  # A socket without a worker would keep a third of them waiting.
            assert service.request("GET", "/health")[0] == 200


def test_former_workers_go_on_when_the_new_ones_do_not_start(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    command = (sys.executable, "-m", "tests.failing_worker", "serve")
    environment: dict[str, Any] = {"PYTHONPATH": ROOT, "DATABASE_URL": new_database()}
    with serve(tmp_path, command=command, **environment) as service:
        (former,) = service.wait_until_serving().workers()
        (tmp_path / "fail").touch()
        service.send(signal.SIGHUP)
        service.wait_for_output("reload failed, the former workers go on")
        eventually(lambda: service.workers() == [former], "the end of the new worker")
        assert service.request("GET", "/health")[0] == 200
        (tmp_path / "fail").unlink()
        reload(service)
        eventually(lambda: former not in service.workers(), "the end of the former worker")
        assert service.request("GET", "/health")[0] == 200


def test_signal_during_the_check_leads_to_another_check(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    with serve(tmp_path, DATABASE_URL=new_database()) as service:
        service.wait_until_serving()
        service.send(signal.SIGHUP)
        service.wait_for_output("reloading: checking")
        service.send(signal.SIGHUP)
        eventually(lambda: service.out.count("reloading: checking") == 2, "the second check")
        eventually(lambda: reloads(service) >= 1, "the reload")
        assert service.request("GET", "/health")[0] == 200


def test_stop_during_the_check_ends_it(tmp_path: Path, new_database: NewDatabase) -> None:
    with serve(tmp_path, DATABASE_URL=new_database()) as service:
        service.wait_until_serving()
        service.send(signal.SIGHUP)
        service.wait_for_output("reloading: checking")
        service.send(signal.SIGTERM)
        assert service.wait_for_exit() == 0
        eventually(lambda: not service.remaining_processes(), "the end of all processes")


def test_embedded_postgresql_is_watched_after_a_reload(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        service.wait_until_serving()
        reload(service)
        for _ in range(2):
            before = service.out.count("embedded postgresql exited")
            os.kill(min(set(service.children()) & set(service.postgres())), signal.SIGKILL)
            eventually(
                lambda: service.out.count("embedded postgresql exited") > before,  # noqa: B023
                "the restart of PostgreSQL",
            )
            eventually(lambda: service.request("GET", "/health")[0] == 200, "the recovery")
        service.register("jake")
        os.kill(service.pid, signal.SIGKILL)
        service.wait_for_exit()
        eventually(lambda: not service.remaining_processes(), "the end of all its processes")
    with serve(tmp_path) as again:
        assert again.wait_until_serving().login("jake") == 200


def test_end_of_the_terminal_stops_the_service(tmp_path: Path) -> None:
    main, terminal = pty.openpty()

    def take_terminal() -> None:
        heed_signals()
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path / "data")}
    out = tmp_path / "out"
    with out.open("wb") as file:
        popen = subprocess.Popen(
            [*RUN, "serve"],
            cwd=tmp_path,
            env={**environment, "PORT": str(free_port()), "BCRYPT_COST": "4"},
            stdin=terminal,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=take_terminal,
        )
    try:
        os.close(terminal)
        eventually(lambda: "Listening on" in out.read_text(), "the start")
        popen.send_signal(signal.SIGHUP)  # The terminal is still there.
        eventually(lambda: "reloaded: " in out.read_text(), "the reload")
        os.close(main)  # The kernel sends SIGHUP.
        assert popen.wait(30) == 0
    finally:
        popen.kill()
        popen.wait()
