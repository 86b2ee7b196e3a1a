"""Killing parts of the service, and all of it: it comes back, and no account is lost."""

import os
import signal
from pathlib import Path

from tests.processes import Process, account, begin, eventually, free_port, needs_proc, serve

pytestmark = needs_proc


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
