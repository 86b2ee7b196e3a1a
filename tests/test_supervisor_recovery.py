"""Killing parts of the service, and all of it: it comes back, and no account is lost."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import ROOT, Process, account, begin, eventually, free_port, needs_proc, serve

pytestmark = needs_proc

NewDatabase = Callable[[], str]


def is_well(service: Process) -> bool:
    """Whether it answers and its database does; it may be away, but may not fail."""
    try:
        status, _ = service.request("GET", "/health")
    except OSError:
        return False
    assert status in (200, 503)
    return status == 200


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    with serve(tmp_path, WEB_CONCURRENCY=2) as service:
        token = service.serving().register("jake")
        before = service.workers()
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        service.says("starting another")
        eventually(lambda: len(service.workers()) == 2 and service.workers() != before, "another")
        assert before[1] in service.workers()
        for _ in range(20):  # The kernel hands them to both workers.
            assert service.request("GET", "/api/user", token=token)[0] == 200
        service.send(signal.SIGTERM)
        assert service.status() == 0
        assert service.left() == []


def serve_hastily(folder: Path, **environment: Any) -> Process:
    """The service with two workers, which hang after 4 seconds without a heartbeat."""
    command = (sys.executable, "-m", "tests.short_heartbeats", "serve")
    return serve(folder, command=command, PYTHONPATH=ROOT, WEB_CONCURRENCY=2, **environment)


def killed_as_silent(service: Process) -> list[str]:
    """The lines that tell of a worker killed for its silence."""
    messages = (line.get("message", "") for line in service.log())
    return [message for message in messages if message.startswith("killing")]


def hang(service: Process, pid: int) -> str:
    """Let a worker hang until the service says that it kills it; what it says."""
    os.kill(pid, signal.SIGSTOP)
    line = f"killing a worker that sends no heartbeats: pid={pid}"
    service.says(line)
    return line


def await_looks(service: Process) -> None:
    """Return once the parent has looked for heartbeats again: its waits become more."""
    before = waits_of(service.pid)
    eventually(lambda: waits_of(service.pid) > before + 2, "a look of the parent")


def waits_of(pid: int) -> int:
    """How often a process has begun to wait for something."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_worker_that_hangs_is_replaced(tmp_path: Path, new_database: NewDatabase) -> None:
    with serve_hastily(tmp_path, DATABASE_URL=new_database()) as service:
        hanging, other = service.serving().workers()
        line = hang(service, hanging)
        eventually(lambda: len(set(service.workers()) - {hanging}) == 2, "another worker")
        for _ in range(20):  # The kernel hands them to both workers.
            assert service.request("GET", "/health")[0] == 200
        assert other in service.workers()
        assert killed_as_silent(service) == [line]
        service.send(signal.SIGTERM)
        assert service.status() == 0
        assert service.left() == []


def test_worker_that_starts_is_not_taken_for_one_that_hangs(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    with serve_hastily(tmp_path, DATABASE_URL=new_database()) as service:
        killed, other = service.serving().workers()
        (tmp_path / "hold").touch()
        os.kill(killed, signal.SIGKILL)
        service.says("starting another")
        (starting,) = eventually(lambda: set(service.workers()) - {killed, other}, "another")
        line = hang(service, other)  # By then the other start has taken as long.
        assert starting in service.workers()
        (tmp_path / "hold").unlink()
        for _ in range(20):
            assert service.request("GET", "/health")[0] == 200
        assert starting in service.workers()
        assert killed_as_silent(service) == [line]


def test_worker_that_drains_is_not_taken_for_one_that_hangs(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    settings = {"DATABASE_URL": new_database(), "SHUTDOWN_TIMEOUT": 3600}
    with serve_hastily(tmp_path, **settings) as service, contextlib.ExitStack() as stack:
        draining, other = service.serving().workers()
        for _ in range(40):  # The kernel hands them to both workers.
            client = stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            client.sendall(
                b"POST /api/users HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                b"Content-Length: 100\r\n\r\n"
            )
            assert client.recv(100).startswith(b"HTTP/1.1 100"), "the request has begun"
        os.kill(draining, signal.SIGTERM)
        line = hang(service, other)  # By then the drain has taken as long.
        assert draining in service.workers()
        stack.close()
        eventually(lambda: draining not in service.workers(), "the end of the drain")
        assert killed_as_silent(service) == [line]


def test_stopped_service_takes_no_worker_for_one_that_hangs(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    url = new_database()
    with (
        serve_hastily(tmp_path / "one", DATABASE_URL=url) as service,
        serve_hastily(tmp_path / "clock", DATABASE_URL=url) as clock,
    ):
        workers = service.serving().workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        await_looks(service)
        os.kill(service.pid, signal.SIGSTOP)
        hang(clock.serving(), clock.workers()[0])  # So long the service is stopped.
        os.kill(service.pid, signal.SIGCONT)
        await_looks(service)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        line = hang(service, workers[0])
        assert workers[1] in service.workers()
        assert killed_as_silent(service) == [line]


def test_request_ids_differ_among_workers_and_after_a_restart(tmp_path: Path) -> None:
    with serve(tmp_path, WEB_CONCURRENCY=2) as service:
        service.serving()
        requests = 40  # The kernel spreads them: a worker without one would be a miracle.
        for _ in range(requests):
            service.request("GET", "/nowhere")
        (killed, _) = service.workers()
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: len(set(service.workers()) - {killed}) == 2, "another worker")
        for _ in range(requests):
            service.request("GET", "/nowhere")
        service.send(signal.SIGTERM)
        assert service.status() == 0
        ids = [line["request_id"] for line in service.log() if "request_id" in line]
        assert len(ids) == len(set(ids)) == 2 * requests
        assert len({request_id.partition("-")[0] for request_id in ids}) == 3


def test_all_workers_killed_at_once_are_replaced(tmp_path: Path) -> None:
    with serve(tmp_path, WEB_CONCURRENCY=2) as service:
        token = service.serving().register("jake")
        for pid in service.workers():
            os.kill(pid, signal.SIGKILL)
        # The port stays open meanwhile: clients wait for the new workers.
        assert service.request("GET", "/api/user", token=token)[0] == 200


def test_killing_the_service_loses_no_account(tmp_path: Path) -> None:
    same = {"PORT": free_port(), "WEB_CONCURRENCY": 2}
    with serve(tmp_path, **same) as first:
        first.serving()
        names = [f"user{number}" for number in range(5)]
        for name in names:
            first.register(name)
        with first.connection() as busy:
            begin(busy, "POST", "/api/users", account("halfway"))
            first.send(signal.SIGKILL)
            # At once, over what is still ending.
            with serve(tmp_path, **same) as second:
                second.serving()
                assert [second.login(name) for name in names] == [200] * len(names)
                eventually(lambda: not first_is_left(first, second), "the end of the first")


def first_is_left(first: Process, second: Process) -> bool:
    """Whether a process of the first service runs; both use one folder of data."""
    return bool(set(first.left()) - set(second.left()))


def test_killing_the_service_ends_its_workers_and_postgres(tmp_path: Path) -> None:
    with serve(tmp_path, WEB_CONCURRENCY=2) as service:
        service.serving().register("jake")
        assert service.postgres()
        service.send(signal.SIGKILL)
        service.status()
        eventually(lambda: not service.left(), "the end of all its processes")


def test_an_embedded_database_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        token = service.serving().register("jake")
        (first,) = set(service.children()) & set(service.postgres())
        os.kill(first, signal.SIGKILL)
        status, _ = service.request("GET", "/api/user", token=token)
        assert status in (200, 503)
        service.says("starting it again")
        eventually(lambda: is_well(service), "its return")
        assert first not in service.postgres()
        assert service.login("jake") == 200
        assert service.request("GET", "/api/user", token=token)[0] == 200
        service.send(signal.SIGTERM)
        assert service.status() == 0
        assert service.left() == []


def test_a_stop_while_the_embedded_database_is_away_is_clean(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        service.serving().register("jake")
        (first,) = set(service.children()) & set(service.postgres())
        os.kill(first, signal.SIGKILL)
        service.send(signal.SIGTERM)
        assert service.status() == 0
        assert service.err == ""
        eventually(lambda: not service.left(), "the end of all its processes")
    with serve(tmp_path) as again:
        assert again.serving().login("jake") == 200
