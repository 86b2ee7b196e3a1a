"""The metrics while a new version takes over, and after one that could not."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.metrics.test_endpoint import COUNT, scrape
from tests.processes import ROOT, Process, eventually, free_port, needs_proc, serve
from tests.test_supervisor_reload import reload

pytestmark = needs_proc

HEALTH = {"method": "GET", "route": "/health", "status": "200"}


def send(service: Process, count: int) -> None:
    for _ in range(count):
        assert service.request("GET", "/health")[0] == 200


def test_counters_begin_again_with_a_reload_and_then_never_go_back(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, WEB_CONCURRENCY=2, METRICS_PORT=port) as service:
        service.wait_until_serving()
        former = set(service.workers())
        send(service, 30)
        eventually(lambda: scrape(port).get(COUNT, **HEALTH) == 30, "the count")
        reload(service)
        eventually(lambda: not former & set(service.workers()), "the end of the former workers")
        assert scrape(port).get(COUNT, **HEALTH) is None
        send(service, 20)
        eventually(lambda: scrape(port).get(COUNT, **HEALTH) == 20, "the count")
        # Any worker may respond.
        assert {scrape(port).get(COUNT, **HEALTH) for _ in range(20)} == {20}
        assert scrape(port).workers() == {"0", "1"}
        assert scrape(port).get("worker_restarts_total") == 0


def test_metrics_are_those_of_the_former_workers_when_the_new_ones_do_not_start(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    port = free_port()
    command = (sys.executable, "-m", "tests.failing_worker", "serve")
    environment: dict[str, Any] = {
        "PYTHONPATH": ROOT,
        "DATABASE_URL": new_database(),
        "WEB_CONCURRENCY": 2,
        "METRICS_PORT": port,
    }
    with serve(tmp_path, command=command, **environment) as service:
        former = set(service.wait_until_serving().workers())
        send(service, 30)
        (tmp_path / "fail").touch()
        service.send(signal.SIGHUP)
        service.wait_for_output("reload failed, the former workers go on")
        eventually(lambda: set(service.workers()) == former, "the end of the new workers")
        (tmp_path / "fail").unlink()
        # A worker of the new version replaces one of the former workers.
        before = responders(service)
        os.kill(min(former), signal.SIGKILL)

        def has_responded() -> bool:
            send(service, 1)
            return bool(responders(service) - before)

        eventually(has_responded, "a response of the new worker")
        (count,) = {scrape(port).get(COUNT, **HEALTH) for _ in range(50)}
        assert count is not None and count >= 30


def responders(service: Process) -> set[str]:
    """Return what tells apart the processes in the log: the start of their request ids."""
    return {line["request_id"].partition("-")[0] for line in service.log() if line.get("route")}
