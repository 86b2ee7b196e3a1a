"""The alerts and the dashboard of ``monitoring/`` in a real Prometheus.

Each alert is tried by making its condition true in a real service. The durations of the rules are
sixty times as short.
"""

import itertools
import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from aiosmtpd.controller import Controller

from tests.metrics.prometheus import (
    ALERTS,
    Prometheus,
    check_rules,
    needs_prometheus,
    repeatedly,
)
from tests.postgres import OwnPostgres
from tests.processes import ROOT, Process, account, eventually, free_port, needs_proc, serve

pytestmark = [needs_prometheus, needs_proc]

DASHBOARD = json.loads((ROOT / "monitoring/dashboard.json").read_text(encoding="utf-8"))
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
_numbers = itertools.count()


@dataclass
class Monitored:
    """A service with two workers, its database, the port of its mail server, and Prometheus."""

    service: Process
    postgres: OwnPostgres
    smtp_port: int
    prometheus: Prometheus

    def register(self) -> dict[str, Any]:
        """Register another account and return the response."""
        status, body = self.service.request("POST", "/api/users", account(new_name()))
        assert status == 200, body
        return dict(body)

    def expect(self, *alerts: str) -> None:
        """Wait until the alerts fire."""
        eventually(lambda: self.prometheus.fires(*alerts), f"{alerts}")


def new_name() -> str:
    return f"user{next(_numbers)}"


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    folder = tmp_path_factory.mktemp("monitored")
    port, smtp_port = free_port(), free_port()
    with OwnPostgres(folder / "postgres") as postgres:
        settings: dict[str, Any] = {
            "DATABASE_URL": postgres.url,
            "WEB_CONCURRENCY": 2,
            "METRICS_PORT": port,
            "DATABASE_POOL_SIZE": 2,
            "PASSWORD_QUEUE_SIZE": 1,
            "REFRESH_GRACE": 0,
            "BASE_URL": "http://localhost",
            "SMTP_URL": f"smtp://127.0.0.1:{smtp_port}",
            "MAIL_FROM": "accounts@example.test",
        }
        with (
            serve(folder / "service", **settings) as service,
            Prometheus(folder / "prometheus", port) as prometheus,
        ):
            service.wait_until_serving()
            yield Monitored(service, postgres, smtp_port, prometheus)


class MailServer:
    """Reply to each recipient with ``reply``."""

    def __init__(self, reply: str) -> None:
        self._reply = reply

    async def handle_RCPT(  # noqa: N802
        self, _: Any, __: Any, envelope: Any, recipient: str, ___: Any
    ) -> str:
        envelope.rcpt_tos.append(recipient)
        return self._reply

    async def handle_DATA(self, *_: Any) -> str:  # noqa: N802
        return "250 OK"


@contextmanager
def mails(monitored: Monitored, reply: str) -> Iterator[None]:
    """Run a mail server during the block."""
    controller = Controller(MailServer(reply), "127.0.0.1", monitored.smtp_port)
    controller.start()
    try:
        yield
    finally:
        controller.stop()


def test_rules_are_valid_and_documented() -> None:
    checked = check_rules()
    assert checked.returncode == 0, checked.stderr
    names = re.findall(r"^ *- alert: (\w+)$", ALERTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert names == re.findall(r"^\| `(Conduit\w+)` \|", OPERATIONS, re.MULTILINE)


def test_healthy_service_fires_no_alert(monitored: Monitored) -> None:
    token = monitored.register()["user"]["token"]
    requests = 'conduit_http_request_duration_seconds_count{route="/api/user"}'

    def count() -> float:
        return sum(float(each["value"][1]) for each in monitored.prometheus.query(requests))

    with (
        mails(monitored, "250 OK"),
        repeatedly(lambda: monitored.service.request("GET", "/api/user", token=token)),
    ):
        # Every rule looks back by at most a minute, sixty times as short, except for those that
        # count events of an hour.
        eventually(lambda: count() > 500, "the requests")
        assert monitored.prometheus.firing() == set()


def test_every_query_of_the_dashboard_has_a_result(monitored: Monitored) -> None:
    token = monitored.register()["user"]["token"]
    wrong = {"user": {"email": "nobody@example.test", "password": "wrong password"}}

    def use() -> None:
        monitored.service.request("GET", "/api/user", token=token)
        monitored.service.request("POST", "/api/users/login", wrong)

    expressions = {
        target["expr"].replace("$instance", ".*").replace("$__rate_interval", "5s")
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    }
    assert len(expressions) > 30
    with repeatedly(use):
        eventually(
            lambda: [each for each in expressions if not monitored.prometheus.query(each)] == [],
            "the results",
        )


def test_worker_that_hangs_is_missing(monitored: Monitored) -> None:
    hanging = monitored.service.workers()[0]
    os.kill(hanging, signal.SIGSTOP)
    try:
        monitored.expect("ConduitWorkersMissing")
    finally:
        os.kill(hanging, signal.SIGCONT)


def test_workers_that_die_again_and_again_fire_an_alert(monitored: Monitored) -> None:
    survivor = monitored.service.workers()[0]

    def kill_other() -> bool:
        for pid in set(monitored.service.workers()) - {survivor}:
            os.kill(pid, signal.SIGKILL)
        return monitored.prometheus.fires("ConduitWorkersRestarting")

    eventually(kill_other, "the alert")
    eventually(lambda: len(monitored.service.workers()) == 2, "the workers")


def test_lost_database_fires_the_alerts_of_database_cache_and_errors(
    monitored: Monitored,
) -> None:
    monitored.postgres.stop()
    try:
        with repeatedly(lambda: monitored.service.request("GET", "/api/articles")):
            monitored.expect("ConduitDatabaseDown", "ConduitCacheDisabled", "ConduitErrors")
    finally:
        monitored.postgres.start()

    def has_ended() -> bool:
        names = {"ConduitDatabaseDown", "ConduitCacheDisabled"}
        return not names & monitored.prometheus.firing()

    eventually(has_ended, "the end of the alerts")


def test_requests_that_wait_for_a_connection_fire_an_alert(monitored: Monitored) -> None:
    def read() -> None:
        monitored.service.request("GET", "/api/articles")

    with psycopg.connect(monitored.postgres.url) as connection:
        connection.execute("lock table articles in access exclusive mode")
        with repeatedly(read, threads=16):
            monitored.expect("ConduitPoolExhausted")
            connection.rollback()


def test_slow_requests_fire_an_alert(monitored: Monitored) -> None:
    token = monitored.register()["user"]["token"]

    def hold_up() -> None:
        with psycopg.connect(monitored.postgres.url) as connection:
            connection.execute("lock table sessions in access exclusive mode")
            connection.execute("select pg_sleep(1)")

    def clear_caches() -> None:
        with psycopg.connect(monitored.postgres.url, autocommit=True) as connection:
            connection.execute("select pg_notify('accounts', 'all:'), pg_sleep(0.02)")

    def read() -> None:
        monitored.service.request("GET", "/api/user", token=token)

    with repeatedly(hold_up), repeatedly(clear_caches), repeatedly(read, threads=4):
        monitored.expect("ConduitSlow")


def test_full_queue_of_password_hashes_fires_an_alert(monitored: Monitored) -> None:
    def log_in() -> None:
        monitored.service.request("POST", "/api/users/login", account(new_name()))

    with repeatedly(log_in, threads=12):
        monitored.expect("ConduitPasswordsBusy")


def test_mail_server_that_is_away_fires_an_alert(monitored: Monitored) -> None:
    monitored.register()
    monitored.expect("ConduitMailDelayed")


def test_mail_server_that_refuses_fires_an_alert(monitored: Monitored) -> None:
    with mails(monitored, "550 No such user"):
        for _ in range(10):
            monitored.register()
        # After an outage a process may wait half a minute before its next attempt.
        refused = 'conduit_mails_total{result="refused"} >= 10'
        eventually(lambda: monitored.prometheus.query(refused), "the attempts")
        monitored.expect("ConduitMailRefused")


def test_fault_of_the_service_fires_an_alert(monitored: Monitored) -> None:
    token = monitored.register()["user"]["token"]
    with psycopg.connect(monitored.postgres.url, autocommit=True) as connection:
        connection.execute("alter table articles rename to articles_away")
        try:
            status, _ = monitored.service.request("GET", "/api/articles/feed", token=token)
            assert status == 500
            monitored.expect("ConduitInternalErrors")
        finally:
            connection.execute("alter table articles_away rename to articles")


def test_reuse_of_refresh_tokens_fires_an_alert(monitored: Monitored) -> None:
    for _ in range(10):
        body = {"refresh_token": monitored.register()["refresh_token"]}
        statuses = [monitored.service.request("POST", "/api/auth/refresh", body)[0] for _ in "12"]
        assert statuses == [200, 401]
    monitored.expect("ConduitTokenReuse")


def test_throttled_logins_fire_an_alert(monitored: Monitored) -> None:
    wrong = {"user": {"email": "guessed@example.test", "password": "wrong password"}}
    with repeatedly(lambda: monitored.service.request("POST", "/api/users/login", wrong)):
        monitored.expect("ConduitLoginsThrottled")


def test_service_that_does_not_respond_is_down(monitored: Monitored) -> None:
    stopped = monitored.service.workers()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        monitored.expect("ConduitDown")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
