"""What metrics cost: GET /api/user of 5,000 sessions in turn, and a scrape.

Two processes with the same settings differ by several percent, which is more than metrics cost. So
both kinds of a request take turns in one process, without sockets.
"""

import statistics
import time
from pathlib import Path
from typing import Any, TextIO, cast

import uvloop

from bench.request_parts import (
    LISTENER,
    SECRET,
    SESSIONS,
    Protocol,
    drive,
    fill,
    middlewares,
    service,
)
from bench.table import Report, Row
from service.accounts import current_user
from service.accounts.sessions.access_tokens import AccessTokens
from service.accounts.sessions.authentication import Authenticator
from service.accounts.sessions.cache import SessionCache
from service.http.request_log import Line, RequestLog
from service.metrics.measured_parts import MeasuredAuthenticator, MeasuredRequestLog
from service.metrics.metrics import routes
from service.metrics.shared_values import SharedValues, WorkerValues
from service.metrics.text_format import render

ROUNDS = 60
SLICE = 1000  # Requests of one subject before the next one takes its turn.
STATUSES = (200, 400, 401)
WORKERS = 4


def measure(report: Report) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes a minute."""
    report(f"GET /api/user with and without metrics, {ROUNDS} rounds ...")
    with Path("/dev/null").open("w") as null:
        rows = uvloop.run(_requests(null))
    report("Scrapes ...")
    return [*rows, _scrape()]


async def _requests(null: TextIO) -> list[Row]:
    tokens, cache = AccessTokens(SECRET, (), 86_400), SessionCache(SESSIONS)
    requests = fill(tokens, cache)
    values = WorkerValues(SharedValues(1, routes()))
    values.use_row(0)
    parts = cast(Any, None), tokens, cache, LISTENER, cast(Any, None)
    plain = Authenticator(*parts)
    measured = MeasuredAuthenticator(*parts, values=values)
    subjects: dict[str, Protocol] = {}
    for name, log, authenticator in (
        ("without", RequestLog(null), plain),
        ("again", RequestLog(null), plain),
        ("with", MeasuredRequestLog(values, null), measured),
    ):
        every = middlewares(log, authenticator)
        subjects[name] = await service(log, tokens, every, current_user.current)
    times: dict[str, list[float]] = {name: [] for name in subjects}
    order = list(subjects)
    for number in range(-3, ROUNDS):  # The first three are a warm-up.
        # Short slices: the speed of the machine changes between them.
        for begin in range(0, SESSIONS, SLICE):
            for name in order:
                spent = (await drive(subjects[name], requests[begin : begin + SLICE]))[0]
                if number >= 0:
                    times[name].append(spent)
            order.append(order.pop(0))  # Each comes first, second and third in turn.
    return [
        _row("METRICS_PORT not set, measured twice", times["again"], times["without"], ""),
        _row("METRICS_PORT set, and not set", times["with"], times["without"], "at most 1.03"),
    ]


def _row(what: str, one: list[float], other: list[float], aim: str) -> Row:
    ratio = statistics.median(a / b for a, b in zip(one, other, strict=True))
    first, second = statistics.median(one), statistics.median(other)
    return Row(f"GET /api/user: {what}", f"{first:.1f} µs", f"{second:.1f} µs", f"{ratio:.3f}", aim)


def _scrape() -> Row:
    shared = SharedValues(WORKERS, routes())
    lines = [
        Line(0.0, "", method, route, status, 0.1, None)
        for method, route in routes()
        for status in STATUSES
    ]
    for index in range(WORKERS):
        values = WorkerValues(shared)
        values.use_row(index)
        values.observe_requests(lines)
    times = []
    for _ in range(ROUNDS):
        before = time.process_time()
        text = render(shared, (), 0.0)
        times.append((time.process_time() - before) * 1000)
    count = text.count("\n")
    return Row(
        f"a scrape after {len(STATUSES)} statuses of every route, {WORKERS} workers",
        f"{statistics.median(times):.1f} ms",
        f"{count:,} lines",
        "",
    )
