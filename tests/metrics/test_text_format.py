"""The text of the metrics, as the parser of Prometheus reads it."""

from service.http.request_log import Line
from service.metrics import families
from service.metrics.shared_values import SharedValues
from service.metrics.text_format import Reading, render
from tests.metrics.scrapes import Scrape, worker_values

NOW = 1000.0


def line(status: int, seconds: float) -> Line:
    return Line(0.0, "id", "GET", "/api/articles/{slug}", status, seconds, None)


def scrape(shared: SharedValues, *readings: Reading) -> Scrape:
    return Scrape(render(shared, readings, NOW))


def test_counters_and_histograms_are_sums_over_all_processes() -> None:
    shared = SharedValues(2, [("GET", "/api/articles/{slug}")])
    for index in (0, 1):
        worker = worker_values(shared, index)
        worker.observe_requests([line(200, 0.002), line(200, 60.0)])
        worker.counter(families.MAILS, "sent").increment()
        worker.histogram(families.HASH_WAIT, "login").observe(0.5)
    shared.increment(2, families.RESTARTS)
    found = scrape(shared)
    assert found.get("mails_total", result="sent") == 2
    assert found.get("mails_total", result="refused") == 0
    assert found.get("worker_restarts_total") == 1
    assert found.get("password_hash_wait_seconds_sum", queue="login") == 1.0
    assert found.get("password_hash_wait_seconds_count", queue="other") == 0
    labels = {"method": "GET", "route": "/api/articles/{slug}", "status": "200"}
    name = "http_request_duration_seconds"
    assert found.types[name] == "histogram"
    assert found.get(f"{name}_bucket", le="0.001", **labels) == 0
    assert found.get(f"{name}_bucket", le="0.0025", **labels) == 2
    assert found.get(f"{name}_bucket", le="30", **labels) == 2
    assert found.get(f"{name}_bucket", le="+Inf", **labels) == 4
    assert found.get(f"{name}_count", **labels) == 4
    assert found.get(f"{name}_sum", **labels) == 120.004


def test_gauges_are_of_each_worker_that_runs() -> None:
    shared = SharedValues(3, [])
    for index in (0, 1):
        worker = worker_values(shared, index)
        worker.gauge(families.CONNECTIONS).set(10 + index)
        worker.gauge(families.HASHES_WAITING, "login").set(index)
        worker.gauge(families.HEARTBEAT).set(NOW - 2.5 - index)
    found = scrape(shared)
    assert found.get("connections_open", worker="0") == 10
    assert found.get("connections_open", worker="1") == 11
    assert found.get("password_hashes_waiting", worker="1", queue="login") == 1
    assert found.get("worker_heartbeat_age_seconds", worker="1") == 3.5
    shared.clear_gauges(0)
    assert scrape(shared).workers() == {"1"}


def test_readings_are_gauges_without_a_worker() -> None:
    labels = 'version="1.2"'
    found = scrape(
        SharedValues(1, []), Reading("info", "Help.", 1.0, labels), Reading("workers", "Help.", 4.0)
    )
    assert found.get("info", version="1.2") == 1
    assert found.get("workers") == 4
    assert found.types["workers"] == "gauge"


def test_every_counter_is_there_before_its_first_event() -> None:
    """Otherwise Prometheus would not see the first event as an increase."""
    found = scrape(SharedValues(1, []))
    for family in families.FAMILIES:
        if family.kind is families.Kind.COUNTER:
            for value in family.values:
                labels = {family.label: value} if family.label else {}
                assert found.get(family.name, **labels) == 0
