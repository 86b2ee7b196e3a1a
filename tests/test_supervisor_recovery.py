"""Test that the service recovers when parts of it are killed, and that no account is lost."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import (
    ROOT,
    Process,
    account,
    eventually,
    free_port,
    needs_proc,
    send_request,
    serve,
)

pytestmark = needs_proc

NewDatabase = Callable[[], str]


def is_healthy(service: Process) -> bool:
    """Return whether the service and its database respond. Fail on a status that is not allowed."""
    try:
        status, _ = service.request("GET", "/health")
    except OSError:
        return False
    assert status in (200, 503)
    return status == 200


def test_killed_worker_is_replaced(tmp_path: Path) -> None:
    with serve(tmp_path, WEB_CONCURRENCY=2) as service:
        token = service.wait_until_serving().register("jake")
        before = service.workers()
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        service.wait_for_output("worker exited, starting another")
        eventually(lambda: len(service.workers()) == 2 and service.workers() != before, "another")
        assert before[1] in service.workers()
        for _ in range(20):  # The kernel distributes them to both workers.
            assert service.request("GET", "/api/user", token=token)[0] == 200
        service.send(signal.SIGTERM)
        assert service.wait_for_exit() == 0
        assert service.remaining_processes() == []


def serve_with_short_heartbeats(folder: Path, **environment: Any) -> Process:
    """Start the service with two workers, which count as hanging after 4 seconds of silence."""
    command = (sys.executable, "-m", "tests.short_heartbeats", "serve")
    return serve(folder, command=command, PYTHONPATH=ROOT, WEB_CONCURRENCY=2, **environment)


def hanging_messages(service: Process) -> list[str]:
    """Return the log messages about workers that hang."""
    messages = (line.get("message", "") for line in service.log())
    return [message for message in messages if message.startswith("worker sends no heartbeats")]


def hang(service: Process, pid: int) -> str:
    """Stop a worker with SIGSTOP until the service kills it, and return the log message."""
    os.kill(pid, signal.SIGSTOP)
    line = f"worker sends no heartbeats, killing it: pid={pid}"
    service.wait_for_output(line)
    return line


def wait_for_checks(service: Process) -> None:
    """Wait until the parent has checked for heartbeats again: the number of its waits grows."""
    before = count_waits(service.pid)
    eventually(lambda: count_waits(service.pid) > before + 2, "a check by the parent")


def count_waits(pid: int) -> int:
    """Return how often a process has started to wait."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_hanging_worker_is_replaced(tmp_path: Path, new_database: NewDatabase) -> None:
    with serve_with_short_heartbeats(tmp_path, DATABASE_URL=new_database()) as service:
        hanging, other = service.wait_until_serving().workers()
        line = hang(service, hanging)
        eventually(lambda: len(set(service.workers()) - {hanging}) == 2, "another worker")
        for _ in range(20):  # The kernel distributes them to both workers.
            assert service.request("GET", "/health")[0] == 200
        assert other in service.workers()
        assert hanging_messages(service) == [line]
        service.send(signal.SIGTERM)
        assert service.wait_for_exit() == 0
        assert service.remaining_processes() == []


def test_starting_worker_does_not_count_as_hanging(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    with serve_with_short_heartbeats(tmp_path, DATABASE_URL=new_database()) as service:
        killed, other = service.wait_until_serving().workers()
        (tmp_path / "hold").touch()
        os.kill(killed, signal.SIGKILL)
        service.wait_for_output("worker exited, starting another")
        (starting,) = eventually(lambda: set(service.workers()) - {killed, other}, "another")
        line = hang(service, other)  # The other start has taken as long by now.
        assert starting in service.workers()
        (tmp_path / "hold").unlink()
        for _ in range(20):
            assert service.request("GET", "/health")[0] == 200
        assert starting in service.workers()
        assert hanging_messages(service) == [line]


def test_draining_worker_does_not_count_as_hanging(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    settings = {"DATABASE_URL": new_database(), "SHUTDOWN_TIMEOUT": 3600}
    with (
        serve_with_short_heartbeats(tmp_path, **settings) as service,
        contextlib.ExitStack() as stack,
    ):
        draining, other = service.wait_until_serving().workers()
        for _ in range(40):  # The kernel distributes them to both workers.
            client = stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            client.sendall(
                b"POST /api/users HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                b"Content-Length: 100\r\n\r\n"
            )
            assert client.recv(100).startswith(b"HTTP/1.1 100"), "the request has begun"
        os.kill(draining, signal.SIGTERM)
        line = hang(service, other)  # The drain has taken as long by now.
        assert draining in service.workers()
        stack.close()
        eventually(lambda: draining not in service.workers(), "the end of the drain")
        assert hanging_messages(service) == [line]


def test_no_worker_counts_as_hanging_while_the_parent_is_stopped(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    url = new_database()
    with (
        serve_with_short_heartbeats(tmp_path / "one", DATABASE_URL=url) as service,
        serve_with_short_heartbeats(tmp_path / "clock", DATABASE_URL=url) as clock,
    ):
        workers = service.wait_until_serving().workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        wait_for_checks(service)
        os.kill(service.pid, signal.SIGSTOP)
        hang(clock.wait_until_serving(), clock.workers()[0])  # The service is stopped for as long.
        os.kill(service.pid, signal.SIGCONT)
        wait_for_checks(service)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        line = hang(service, workers[0])
        assert workers[1] in service.workers()
        assert hanging_messages(service) == [line]


def test_request_ids_are_unique_among_workers_and_after_a_restart(tmp_path: Path) -> None:
    with serve(tmp_path, WEB_CONCURRENCY=2) as service:
        service.wait_until_serving()
        requests = 40  # The kernel distributes them: each worker gets some.
        for _ in range(requests):
            service.request("GET", "/nowhere")
        (killed, _) = service.workers()
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: len(set(service.workers()) - {killed}) == 2, "another worker")
        for _ in range(requests):
            service.request("GET", "/nowhere")
        service.send(signal.SIGTERM)
        assert service.wait_for_exit() == 0
        ids = [line["request_id"] for line in service.log() if "request_id" in line]
        assert len(ids) == len(set(ids)) == 2 * requests
        assert len({request_id.partition("-")[0] for request_id in ids}) == 3


def test_all_workers_killed_at_once_are_replaced(tmp_path: Path) -> None:
    with serve(tmp_path, WEB_CONCURRENCY=2) as service:
        token = service.wait_until_serving().register("jake")
        for pid in service.workers():
            os.kill(pid, signal.SIGKILL)
        # The port stays open: clients wait for the new workers.
        assert service.request("GET", "/api/user", token=token)[0] == 200


def test_no_account_is_lost_when_the_service_is_killed(tmp_path: Path) -> None:
    same: dict[str, Any] = {"PORT": free_port(), "WEB_CONCURRENCY": 2}
    with serve(tmp_path, **same) as first:
        first.wait_until_serving()
        names = [f"user{number}" for number in range(5)]
        for name in names:
            first.register(name)
        with first.connection() as busy:
            send_request(busy, "POST", "/api/users", account("halfway"))
            first.send(signal.SIGKILL)
            # At once, while processes of the first service still exit.
            with serve(tmp_path, **same) as second:
                second.wait_until_serving()
                assert [second.login(name) for name in names] == [200] * len(names)
                eventually(lambda: not has_process_of_first(first, second), "the end of the first")


def has_process_of_first(first: Process, second: Process) -> bool:
    """Return whether a process of the first service runs. Both use one data folder."""
    return bool(set(first.remaining_processes()) - set(second.remaining_processes()))


def test_workers_and_postgresql_exit_when_the_service_is_killed(tmp_path: Path) -> None:
    with serve(tmp_path, WEB_CONCURRENCY=2) as service:
        service.wait_until_serving().register("jake")
        assert service.postgres()
        service.send(signal.SIGKILL)
        service.wait_for_exit()
        eventually(lambda: not service.remaining_processes(), "the end of all its processes")


def test_killed_embedded_postgresql_is_started_again(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        token = service.wait_until_serving().register("jake")
        (first,) = set(service.children()) & set(service.postgres())
        os.kill(first, signal.SIGKILL)
        status, _ = service.request("GET", "/api/user", token=token)
        assert status in (200, 503)
        service.wait_for_output("embedded postgresql exited, starting it again")
        eventually(lambda: is_healthy(service), "its return")
        assert first not in service.postgres()
        assert service.login("jake") == 200
        assert service.request("GET", "/api/user", token=token)[0] == 200
        service.send(signal.SIGTERM)
        assert service.wait_for_exit() == 0
        assert service.remaining_processes() == []


def test_service_stops_cleanly_while_the_embedded_postgresql_is_down(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        service.wait_until_serving().register("jake")
        (first,) = set(service.children()) & set(service.postgres())
        os.kill(first, signal.SIGKILL)
        service.send(signal.SIGTERM)
        assert service.wait_for_exit() == 0
        assert service.err == ""
        eventually(lambda: not service.remaining_processes(), "the end of all its processes")
    with serve(tmp_path) as again:
        assert again.wait_until_serving().login("jake") == 200
