"""The values of the metrics, in memory that the parent and its workers share.

Each process writes only to its own row, without a lock: a cell is a float of eight bytes, which the
processor writes at once. A row outlives its worker. The worker that replaces a dead one continues
to count in its row, so no count is lost and no counter goes back. ``docs/decisions/metrics.md`` has
the alternatives that were measured.
"""

import math
import mmap
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from service.http.request_log import Line
from service.metrics.families import (
    AUTHENTICATED,
    BOUNDS,
    FAMILIES,
    HISTOGRAM_CELLS,
    SUM,
    Family,
    Kind,
)

CELL_BYTES = 8
STATUSES_PER_ROUTE = 24  # On average. The routes of this service have fewer.
MAX_STATUS = 1000

Cells: TypeAlias = "memoryview[float]"  # Only from Python 3.14 on is it generic at run time.
Route = tuple[str, str]

UNMATCHED: Route = ("other", "unmatched")
"""The method and the route of requests that no route matched. Clients choose their methods."""


class Series(NamedTuple):
    """The labels of the time series of requests."""

    method: str
    route: str
    status: int


class SharedValues:
    """The rows of ``workers`` workers, and the row of their parent after them."""

    def __init__(self, workers: int, routes: Iterable[Route]) -> None:
        """Allocate the memory before the workers are forked.

        ``routes`` are the methods and path templates of all routes.
        """
        self.workers = workers
        self._routes = (UNMATCHED, *sorted(set(routes)))
        self._numbers = {route: number for number, route in enumerate(self._routes)}
        self._positions: dict[tuple[str, str], int] = {}
        size = 0
        for family in FAMILIES:
            for value in family.values:
                self._positions[family.name, value] = size
                size += HISTOGRAM_CELLS if family.kind is Kind.HISTOGRAM else 1
        # The series of requests come into being at their first request. Their number is in
        # ``_count``. A list of their keys follows, then their cells.
        self._count = size
        self.capacity = len(self._routes) * STATUSES_PER_ROUTE
        self._first = self._count + 1 + self.capacity
        # One more histogram than ``capacity``: it takes what is over, and no scrape reads it.
        self._width = self._first + (self.capacity + 1) * HISTOGRAM_CELLS
        # The kernel allocates a page of it at the first write.
        memory = mmap.mmap(-1, (workers + 1) * self._width * CELL_BYTES)
        self._cells: Cells = memoryview(memory).cast("d")
        for index in range(workers + 1):
            self.clear_gauges(index)

    def row(self, index: int) -> Cells:
        """Return the cells of the worker at ``index``, or of the parent at ``workers``."""
        return self._cells[index * self._width : (index + 1) * self._width]

    def clear_gauges(self, index: int) -> None:
        """Remove the gauges of a worker that has died, or that has yet to start."""
        row = self.row(index)
        for family in FAMILIES:
            if family.kind in (Kind.GAUGE, Kind.AGE):
                for value in family.values:
                    row[self.position(family, value)] = math.nan

    def increment(self, index: int, family: Family) -> None:
        """Count an event of a metric without a label in the row at ``index``."""
        self.row(index)[self.position(family)] += 1

    def position(self, family: Family, value: str = "") -> int:
        """Return the first cell of ``family`` in a row. ``value`` is the value of its label."""
        return self._positions[family.name, value]

    def base(self, number: int) -> int:
        """Return the first cell in a row of its request series ``number``, counted from 0."""
        return self._first + number * HISTOGRAM_CELLS

    def open_series(self, row: Cells, series: Series) -> int:
        """Add a request series to ``row`` and return its first cell."""
        count = int(row[self._count])
        if count < self.capacity:
            number = self._numbers.get((series.method, series.route), 0)
            row[self._count + 1 + count] = number * MAX_STATUS + series.status
            row[self._count] = count + 1  # Last: another process may read now.
        return self.base(count)

    def series_of(self, row: Cells) -> Iterator[tuple[Series, int]]:
        """Yield each request series of ``row`` with its first cell."""
        keys = row[self._count + 1 : self._count + 1 + int(row[self._count])]
        for position, key in enumerate(keys):
            number, status = divmod(int(key), MAX_STATUS)
            yield Series(*self._routes[number], status), self.base(position)


class Counter:
    """A counter of one process."""

    __slots__ = ("_position", "_values")

    def __init__(self, values: "WorkerValues", position: int) -> None:
        self._values = values
        self._position = position

    def increment(self) -> None:
        """Count one event."""
        self._values.row[self._position] += 1


class Gauge(Counter):
    """A gauge of one process."""

    __slots__ = ()

    def set(self, value: float) -> None:
        """Replace the value. For an ``AGE`` it is a time."""
        self._values.row[self._position] = value


class Histogram(Counter):
    """A histogram of one process."""

    __slots__ = ()

    def observe(self, seconds: float) -> None:
        """Count an event that took ``seconds``."""
        row = self._values.row
        row[self._position + bisect_left(BOUNDS, seconds)] += 1
        row[self._position + SUM] += seconds


class WorkerValues:
    """The row of one worker, which only this worker writes.

    The application is created before the workers are forked, with the row of their parent.
    """

    def __init__(self, shared: SharedValues) -> None:
        self.shared = shared
        self.row: Cells = shared.row(shared.workers)
        self._authenticated = shared.position(AUTHENTICATED)
        self._bases: dict[tuple[str, str | None, int], int] = {}

    def use_row(self, index: int) -> None:
        """Continue the row of the worker at ``index``."""
        self.row = self.shared.row(index)
        self._bases.clear()
        for series, base in self.shared.series_of(self.row):
            is_unmatched = (series.method, series.route) == UNMATCHED
            route = None if is_unmatched else series.route
            self._bases[series.method, route, series.status] = base

    def counter(self, family: Family, value: str = "") -> Counter:
        """Return the counter of ``family`` with this value of its label."""
        return Counter(self, self.shared.position(family, value))

    def gauge(self, family: Family, value: str = "") -> Gauge:
        """Return the gauge of ``family`` with this value of its label."""
        return Gauge(self, self.shared.position(family, value))

    def histogram(self, family: Family, value: str = "") -> Histogram:
        """Return the histogram of ``family`` with this value of its label."""
        return Histogram(self, self.shared.position(family, value))

    def observe_requests(self, lines: Sequence[Line]) -> None:
        """Count completed requests. This is the only cost that most requests have."""
        row, bases = self.row, self._bases
        authenticated = 0
        for _, _, method, route, status, seconds, user_id, _ in lines:
            key = (method if route is not None else UNMATCHED[0], route, status)
            base = bases.get(key)
            if base is None:
                series = Series(key[0], route or UNMATCHED[1], status)
                base = bases[key] = self.shared.open_series(row, series)
            row[base + bisect_left(BOUNDS, seconds)] += 1
            row[base + SUM] += seconds
            if user_id is not None:
                authenticated += 1
        if authenticated:
            row[self._authenticated] += authenticated
