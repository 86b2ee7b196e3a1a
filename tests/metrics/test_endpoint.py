"""``GET /metrics`` of real processes: several workers, some of them killed or stopped."""

import http.client
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.metrics.scrapes import Scrape
from tests.postgres import OwnPostgres
from tests.processes import (
    MAX_WAIT,
    ROOT,
    SECRET,
    Process,
    eventually,
    free_port,
    needs_proc,
    serve,
)

COUNT = "http_request_duration_seconds_count"
TOKEN = SECRET[::-1]


def get(
    port: int, path: str = "/metrics", method: str = "GET", authorization: str | None = None
) -> tuple[int, str, http.client.HTTPResponse]:
    """Send one request to the port of the metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=MAX_WAIT)
    headers = {"Authorization": authorization} if authorization is not None else {}
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode(), response
    finally:
        connection.close()


def scrape(port: int) -> Scrape:
    status, text, _ = get(port)
    assert status == 200
    return Scrape(text)


def was_restarted(port: int, count: int) -> bool:
    return scrape(port).get("worker_restarts_total") == count


@needs_proc
def test_counters_of_killed_workers_stay_and_their_gauges_vanish(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, WEB_CONCURRENCY=2, METRICS_PORT=port) as service:
        token = service.wait_until_serving().register("alice")
        seen = scrape(port)
        eventually(lambda: scrape(port).workers() == {"0", "1"}, "the gauges of both workers")

        def read() -> None:
            # Each request is a connection, which the kernel gives to any worker.
            for _ in range(20):
                assert service.request("GET", "/api/user", token=token)[0] == 200

        read()
        for killed in range(1, 4):
            (pid, *_) = service.workers()
            os.kill(pid, signal.SIGKILL)
            eventually(partial(was_restarted, port, killed), "the restart")
            read()
            now = scrape(port)
            for key, value in seen.counters().items():
                assert now.counters()[key] >= value, f"{key} went back"
            seen = now
        labels = {"method": "GET", "route": "/api/user", "status": "200"}
        logged = Counter((line.get("route"), line.get("status")) for line in service.log())
        assert logged["/api/user", 200] == 80
        eventually(lambda: scrape(port).get(COUNT, **labels) == 80, "the count of each request")
        assert scrape(port).total("authenticated_requests_total") == 80


@needs_proc
def test_gauges_of_a_dead_worker_vanish_until_another_starts(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, WEB_CONCURRENCY=2, METRICS_PORT=port) as service:
        service.wait_until_serving()
        eventually(lambda: scrape(port).workers() == {"0", "1"}, "the gauges of both workers")
        survivor = service.workers()[1]

        def kill_others() -> set[str]:
            # The parent waits a second before it replaces a worker that has just started.
            for pid in set(service.workers()) - {survivor}:
                os.kill(pid, signal.SIGKILL)
            return scrape(port).workers()

        eventually(lambda: len(kill_others()) == 1, "the end of the gauges")
        eventually(lambda: scrape(port).workers() == {"0", "1"}, "the gauges of both workers")


@needs_proc
def test_a_worker_that_hangs_is_seen_through_the_others(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, WEB_CONCURRENCY=2, METRICS_PORT=port) as service:
        service.wait_until_serving()
        eventually(lambda: scrape(port).workers() == {"0", "1"}, "the gauges of both workers")
        hanging = service.workers()[0]
        os.kill(hanging, signal.SIGSTOP)

        def ages() -> list[float]:
            name = "worker_heartbeat_age_seconds"
            return [scrape(port).get(name, worker=worker) or 0.0 for worker in ("0", "1")]

        eventually(lambda: max(ages()) > 3 > min(ages()), "the age of the heartbeat")
        os.kill(hanging, signal.SIGCONT)
        eventually(lambda: max(ages()) < 3, "a heartbeat")


def test_outbox_is_read_from_the_database_while_it_responds(tmp_path: Path) -> None:
    port = free_port()
    with OwnPostgres(tmp_path / "postgres") as postgres:
        mail = {"SMTP_URL": f"smtp://127.0.0.1:{free_port()}", "MAIL_FROM": "a@example.test"}
        with serve(
            tmp_path / "service",
            DATABASE_URL=postgres.url,
            BASE_URL="http://localhost",
            METRICS_PORT=port,
            **mail,
        ) as service:
            service.wait_until_serving().register("alice")
            eventually(lambda: scrape(port).get("outbox_mails") == 1, "the mail that waits")
            assert (scrape(port).get("outbox_oldest_age_seconds") or 0) > 0
            eventually(
                lambda: scrape(port).total("mails_total", result="unreachable") > 0, "an attempt"
            )
            postgres.stop()
            eventually(lambda: scrape(port).get("database_up") == 0, "the outage")
            assert scrape(port).get("outbox_mails") is None
            eventually(lambda: scrape(port).get("session_cache_trusted", worker="0") == 0, "it")
            postgres.start()
            eventually(lambda: scrape(port).get("database_up") == 1, "the database")
            assert scrape(port).get("outbox_mails") == 1


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, int]]:
    """Start a service whose metrics need a token."""
    port = free_port()
    folder = tmp_path_factory.mktemp("guarded")
    with serve(folder, METRICS_PORT=port, METRICS_TOKEN=TOKEN) as service:
        yield service.wait_until_serving(), port


@pytest.mark.parametrize(
    "authorization",
    [None, "", TOKEN, f"Token {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xff"],
)
def test_request_without_the_token_gets_401(
    guarded: tuple[Process, int], authorization: str | None
) -> None:
    status, text, response = get(guarded[1], authorization=authorization)
    assert status == 401
    assert '"code":"token_invalid"' in text
    assert response.getheader("WWW-Authenticate") == "Bearer"
    assert "conduit_" not in text


def test_request_with_the_token_gets_the_metrics(guarded: tuple[Process, int]) -> None:
    status, text, response = get(guarded[1], authorization=f"Bearer {TOKEN}")
    assert status == 200
    assert response.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert response.getheader("Server") is None
    assert Scrape(text).get("database_up") == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/api/user", 404), ("POST", "/metrics", 405)],
)
def test_port_of_the_metrics_serves_nothing_else(
    guarded: tuple[Process, int], method: str, path: str, status: int
) -> None:
    found, text, _ = get(guarded[1], path, method, f"Bearer {TOKEN}")
    assert found == status
    assert text.startswith('{"errors":')


def test_service_does_not_serve_metrics_on_its_own_port(guarded: tuple[Process, int]) -> None:
    assert guarded[0].request("GET", "/metrics")[0] == 404


def test_scrapes_are_neither_logged_nor_counted(guarded: tuple[Process, int]) -> None:
    service, port = guarded
    service.request("GET", "/health")
    before = Scrape(get(port, authorization=f"Bearer {TOKEN}")[1])
    after = Scrape(get(port, authorization=f"Bearer {TOKEN}")[1])
    assert before.total(COUNT) == after.total(COUNT) > 0
    assert not [line for line in service.log() if line.get("route") == "/metrics"]


def test_port_in_use_is_one_sentence(tmp_path: Path, guarded: tuple[Process, int]) -> None:
    port = guarded[1]
    with serve(tmp_path, METRICS_PORT=port) as service:
        assert service.wait_for_exit() == 1
        assert service.err == f"Port {port} is in use: stop that program, or set METRICS_PORT.\n"


def test_nothing_of_the_metrics_is_loaded_without_their_port() -> None:
    code = "import sys, service.supervisor, service.worker; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "service.worker" in loaded
    assert [name for name in loaded if name.startswith("service.metrics")] == []
