"""What people do: mixed requests of many sessions, in a closed and an open loop, and a storm."""

import asyncio
import os
import statistics
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import uvloop

from bench import cpu, picture, servers
from bench.client import Sample, closed_loop, open_loop, percentile
from bench.load import logins
from bench.site import MIX, Site, site
from bench.table import Report, Row

PROCESSES = (1, 2)
ROUNDS = 3
SLICE = 1.5  # Seconds.
SHARES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)  # Of the rate of one process in the closed loop.
PREPARED = 20_000  # Requests that the client sends again and again.
STORM_RATE = 2_000
STORM = (3.0, 8.0, 11.0)  # Seconds: the logins begin, they end, the measurement ends.
USER = {"username": "bench", "email": "bench@example.test", "password": "bench-bench"}
LIMIT_RATES = (2_000, 8_000)


def measure(report: Report) -> list[Row]:
    """Measure the figures, and draw ``bench/latency.svg``. Takes two minutes."""
    with site(report) as filled, filled.warm_service(1) as one, filled.warm_service(2) as two:
        services = dict(zip(PROCESSES, (one, two), strict=True))
        prepared = list(islice(filled.requests(MIX), PREPARED))
        closed = _closed(filled, services, prepared, report)
        rates = [closed[1].rate * share for share in SHARES]
        opened = {
            processes: [(rate, *found) for rate, found in zip(rates, points, strict=True)]
            for processes, points in _opened(services, prepared, rates, report).items()
        }
        current = list(islice(filled.requests({"user": 1}), PREPARED))
        servers.call(f"{one.url}/api/users", {"user": USER})
        stormed = [uvloop.run(_storm(one.url, current, report)) for _ in range(ROUNDS)]
        limits = _client_limits(current, report)
    picture.draw(Path(__file__).with_name("latency.svg"), opened, stormed, STORM)
    return [
        *(closed[processes].row(processes) for processes in PROCESSES),
        *_latency_rows(opened),
        *_storm_rows(stormed),
        *limits,
    ]


class _Closed:
    """The rates of the closed loop, and the CPU seconds of a request."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.served: list[float] = []
        self.stored: list[float] = []

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def row(self, processes: int) -> Row:
        served, stored = (statistics.median(found) * 1e6 for found in (self.served, self.stored))
        return Row(
            f"mixed requests, closed loop, {_named(processes)}",
            f"{self.rate:,.0f} /s",
            f"CPU a request: {served:.0f} µs, and {stored:.0f} µs of PostgreSQL",
            "",
        )


def _named(processes: int) -> str:
    return "one process" if processes == 1 else "two processes"


def _closed(
    filled: Site, services: dict[int, servers.Service], prepared: list[bytes], report: Report
) -> dict[int, _Closed]:
    found = {processes: _Closed() for processes in services}
    requests = cycle(prepared)
    for number in range(-1, ROUNDS):  # The first is a warm-up.
        report(f"Mixed requests, closed loop, round {number + 1} of {ROUNDS} ...")
        for processes, service in services.items():
            pids = cpu.workers(service.pid), list(cpu.tree(filled.postgres))
            before = [cpu.seconds(each) for each in pids]
            rate = uvloop.run(closed_loop(service.url, lambda *_: next(requests), SLICE))
            served, stored = (
                (cpu.seconds(each) - start) / (rate * SLICE)
                for each, start in zip(pids, before, strict=True)
            )
            if number >= 0:
                found[processes].rates.append(rate)
                found[processes].served.append(served)
                found[processes].stored.append(stored)
    return found


def _opened(
    services: dict[int, servers.Service], prepared: list[bytes], rates: list[float], report: Report
) -> dict[int, list[tuple[float, float]]]:
    """Return the median p50 and p99 at each of the ``rates``."""
    seen: dict[int, list[list[tuple[float, float]]]] = {n: [[] for _ in rates] for n in services}
    for number in range(ROUNDS):
        for step, rate in enumerate(rates):
            report(f"Open loop, {rate:,.0f} requests a second, round {number + 1} of {ROUNDS} ...")
            for processes, service in services.items():
                samples = uvloop.run(open_loop(service.url, cycle(prepared), rate, SLICE))
                pair = percentile(samples, 0.5), percentile(samples, 0.99)
                seen[processes][step].append(pair)
    return {processes: [_medians(pairs) for pairs in found] for processes, found in seen.items()}


def _medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(p50 for p50, _ in pairs), statistics.median(p99 for _, p99 in pairs)


def _latency_rows(opened: dict[int, list[tuple[float, float, float]]]) -> Iterator[Row]:
    for step, share in enumerate(SHARES):
        (rate, p50, p99), (_, two_p50, two_p99) = (opened[n][step] for n in PROCESSES)
        yield Row(
            f"open loop at {rate:,.0f} /s, {share:.0%} of the closed loop of one process",
            f"one process: p50 {p50:.1f} ms, p99 {p99:.1f} ms",
            f"two processes: p50 {two_p50:.1f} ms, p99 {two_p99:.1f} ms",
            "",
        )


async def _storm(url: str, current: list[bytes], report: Report) -> list[Sample]:
    """Request users at a fixed rate; meanwhile 8 connections log in without a pause."""
    report(f"GET /api/user, {STORM_RATE:,} a second, and a storm of logins in the middle ...")
    begin, end, until = STORM

    async def log_in() -> None:
        await asyncio.sleep(begin)
        await logins(url, USER, seconds=end - begin)

    running = asyncio.create_task(log_in())
    samples = await open_loop(url, cycle(current), STORM_RATE, until)
    await running
    return samples


def _storm_rows(rounds: list[list[Sample]]) -> list[Row]:
    begin, end, _ = STORM

    def between(first: float, last: float, share: float) -> float:
        return statistics.median(
            percentile([sample for sample in samples if first < sample.due < last], share)
            for samples in rounds
        )

    before, meanwhile = between(0.5, begin, 0.99), between(begin + 0.5, end, 0.99)
    middles = between(begin + 0.5, end, 0.5), between(0.5, begin, 0.5)
    return [
        Row(
            f"GET /api/user, open loop at {STORM_RATE:,} /s, while 8 connections log in",
            f"p50 {middles[0]:.1f} ms, p99 {meanwhile:.1f} ms",
            f"without: p50 {middles[1]:.1f} ms, p99 {before:.1f} ms",
            f"{meanwhile / before:.1f} times the p99",
        )
    ]


def _client_limits(current: list[bytes], report: Report) -> list[Row]:
    """Measure the client itself: the bare handler does almost nothing but respond."""
    report("The limit of the client, with the bare handler ...")
    requests = cycle(current)
    with servers.bare(b'{"user":{}}') as bare:
        own = cpu.seconds([os.getpid()])
        rate = uvloop.run(closed_loop(bare.url, lambda *_: next(requests), SLICE))
        spent = (cpu.seconds([os.getpid()]) - own) / (rate * SLICE) * 1e6
        points = [
            uvloop.run(open_loop(bare.url, cycle(current), limit, SLICE)) for limit in LIMIT_RATES
        ]
    slow, fast = (
        f"{limit:,} /s: p50 {percentile(found, 0.5):.1f} ms, p99 {percentile(found, 0.99):.1f} ms"
        for limit, found in zip(LIMIT_RATES, points, strict=True)
    )
    return [
        Row(
            "the client itself, closed loop against the bare handler",
            f"{rate:,.0f} /s",
            f"CPU a request: {spent:.0f} µs",
            "",
        ),
        Row("the client itself, open loop against the bare handler", slow, fast, ""),
    ]
