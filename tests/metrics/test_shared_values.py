"""The values survive the process that wrote them, and their number is bounded."""

import os

from service.http.request_log import Line
from service.metrics import families, shared_values
from service.metrics.shared_values import Series, SharedValues
from tests.metrics.scrapes import worker_values

ROUTES = [("GET", "/api/user"), ("POST", "/api/users")]


def line(
    status: int = 200, route: str | None = "/api/user", method: str = "GET", seconds: float = 0.002
) -> Line:
    return Line(0.0, "id", method, route, status, seconds, None)


def counts(shared: SharedValues, index: int = 0) -> dict[Series, float]:
    """Return the number of requests of each series in the row at ``index``."""
    row = shared.row(index)
    return {series: sum(row[base : base + families.SUM]) for series, base in shared.series_of(row)}


def test_requests_are_counted_by_method_route_and_status() -> None:
    shared = SharedValues(1, ROUTES)
    worker = worker_values(shared, 0)
    worker.observe_requests([line(), line(), line(401)])
    worker.observe_requests([line(200, "/api/users", "POST")])
    assert counts(shared) == {
        Series("GET", "/api/user", 200): 2,
        Series("GET", "/api/user", 401): 1,
        Series("POST", "/api/users", 200): 1,
    }


def test_time_of_a_request_is_in_the_bucket_of_the_next_bound_and_in_the_sum() -> None:
    shared = SharedValues(1, ROUTES)
    times = [0.001, 0.0011, 30.0, 31.0]
    worker_values(shared, 0).observe_requests([line(seconds=seconds) for seconds in times])
    row = shared.row(0)
    ((_, base),) = shared.series_of(row)
    buckets = row[base : base + families.SUM].tolist()
    assert {index: count for index, count in enumerate(buckets) if count} == {
        0: 1,
        1: 1,
        len(families.BOUNDS) - 1: 1,
        len(families.BOUNDS): 1,
    }
    assert row[base + families.SUM] == sum(times)


def test_requests_without_a_route_are_one_series_whatever_their_method_is() -> None:
    shared = SharedValues(1, ROUTES)
    worker = worker_values(shared, 0)
    worker.observe_requests([line(404, None, f"METHOD{number}") for number in range(100)])
    assert counts(shared) == {Series("other", "unmatched", 404): 100}


def test_next_worker_continues_the_row_of_a_dead_one() -> None:
    shared = SharedValues(2, ROUTES)
    for _ in range(3):
        pid = os.fork()
        if not pid:
            worker = worker_values(shared, 0)
            worker.observe_requests([line(), line(404, None)])
            worker.counter(families.CACHE_EVICTIONS).increment()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    assert counts(shared) == {
        Series("GET", "/api/user", 200): 3,
        Series("other", "unmatched", 404): 3,
    }
    assert shared.row(0)[shared.position(families.CACHE_EVICTIONS)] == 3
    assert counts(shared, 1) == {}


def test_number_of_series_is_bounded() -> None:
    shared = SharedValues(2, ROUTES)
    worker = worker_values(shared, 0)
    statuses = range(200, 200 + shared.capacity + 50)
    worker.observe_requests([line(status) for status in statuses])
    assert len(counts(shared)) == shared.capacity == 3 * shared_values.STATUSES_PER_ROUTE
    assert set(counts(shared).values()) == {1}
    worker.observe_requests([line(statuses[-1]), line(statuses[0])])
    assert counts(shared)[Series("GET", "/api/user", statuses[0])] == 2
    assert counts(shared, 1) == {}
