"""Print the values of all processes in the text format of Prometheus, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from service.metrics.families import (
    BOUNDS,
    FAMILIES,
    HISTOGRAM_CELLS,
    PREFIX,
    REQUESTS,
    SUM,
    Family,
    Kind,
)
from service.metrics.shared_values import Cells, Series, SharedValues

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TYPES = {
    Kind.COUNTER: "counter",
    Kind.HISTOGRAM: "histogram",
    Kind.GAUGE: "gauge",
    Kind.AGE: "gauge",
}
_BOUNDS = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]


class Reading(NamedTuple):
    """A gauge of the whole service, which is read at the scrape. ``labels`` are as printed."""

    name: str
    help: str
    value: float
    labels: str = ""


def render(values: SharedValues, readings: Iterable[Reading], now: float) -> str:
    """Return all metrics. ``now`` is the time on the clock of the ages."""
    rows = [values.row(index) for index in range(values.workers + 1)]
    lines: list[str] = []
    for name, text, reading, labels in readings:
        lines.extend(_head(name, text, "gauge"))
        lines.append(_sample(name, labels, reading))
    for family in FAMILIES:
        lines.extend(_head(family.name, family.help, _TYPES[family.kind]))
        for value in family.values:
            labels = f'{family.label}="{value}"' if family.label else ""
            lines.extend(_family(family, values.position(family, value), labels, rows, now))
    lines.extend(_head(REQUESTS.name, REQUESTS.help, "histogram"))
    lines.extend(_requests(values, rows))
    return "\n".join(lines) + "\n"


def _family(
    family: Family, position: int, labels: str, rows: Sequence[Cells], now: float
) -> Iterator[str]:
    """Yield the samples of ``family`` with the value of its label in ``labels``."""
    if family.kind is Kind.COUNTER:
        yield _sample(family.name, labels, sum(row[position] for row in rows))
    elif family.kind is Kind.HISTOGRAM:
        sums = [0.0] * HISTOGRAM_CELLS
        for row in rows:
            _add(sums, row, position)
        yield from _histogram(family.name, labels, sums)
    else:
        for index, row in enumerate(rows):
            value = row[position]
            if math.isnan(value):
                continue
            worker = f'worker="{index}"'
            shown = max(0.0, now - value) if family.kind is Kind.AGE else value
            yield _sample(family.name, f"{worker},{labels}" if labels else worker, shown)


def _requests(values: SharedValues, rows: Sequence[Cells]) -> Iterator[str]:
    found: dict[Series, list[float]] = {}
    for row in rows:
        for series, base in values.series_of(row):
            _add(found.setdefault(series, [0.0] * HISTOGRAM_CELLS), row, base)
    for series, sums in sorted(found.items()):
        labels = f'method="{series.method}",route="{series.route}",status="{series.status}"'
        yield from _histogram(REQUESTS.name, labels, sums)


def _add(sums: list[float], row: Cells, position: int) -> None:
    cells = row[position : position + HISTOGRAM_CELLS].tolist()
    for index, cell in enumerate(cells):
        sums[index] += cell


def _histogram(name: str, labels: str, sums: Sequence[float]) -> Iterator[str]:
    before = f"{labels}," if labels else ""
    count = 0.0
    for bound, count in zip(_BOUNDS, accumulate(sums[:SUM]), strict=True):
        yield _sample(f"{name}_bucket", f'{before}le="{bound}"', count)
    yield _sample(f"{name}_sum", labels, sums[SUM])
    yield _sample(f"{name}_count", labels, count)


def _head(name: str, text: str, kind: str) -> tuple[str, str]:
    return f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} {kind}"


def _sample(name: str, labels: str, value: float) -> str:
    braces = f"{{{labels}}}" if labels else ""
    shown = repr(int(value)) if value.is_integer() else repr(value)
    return f"{PREFIX}{name}{braces} {shown}"
