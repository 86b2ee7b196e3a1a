"""Refreshes: their rate, and the CPU of the service and of PostgreSQL."""

import json
import statistics
from itertools import islice
from typing import NamedTuple

import uvloop

from bench import cpu
from bench.client import closed_loop, request
from bench.site import site
from bench.table import Report, Row

CONNECTIONS = 8
ROUNDS = 5
SLICE = 2.0  # Seconds.


class Round(NamedTuple):
    """The refreshes a second, and the CPU microseconds of one, in the service and PostgreSQL."""

    rate: float
    service: float
    postgres: float


def measure(report: Report) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes 40 seconds.

    REFRESH_LIMIT counts the requests of one IP address in one row, which one refresh after the
    other locks until its commit. So devices at one IP address are slower than devices anywhere.
    """
    rounds: dict[int, list[Round]] = {CONNECTIONS: [], 1: []}
    with site(report) as filled, filled.warm_service(1) as service:
        # Sessions of its own for each round, because the last responses of a round are not read.
        unused = iter(filled.refresh_tokens)
        pids = cpu.workers(service.pid), list(cpu.tree(filled.postgres))
        for number in range(-1, ROUNDS):  # The first is a warm-up.
            report(f"Refreshes, {CONNECTIONS} connections, round {number + 1} of {ROUNDS} ...")
            for ips, measured in rounds.items():
                before = [cpu.seconds(each) for each in pids]
                rate = _refresh(service.url, list(islice(unused, CONNECTIONS)), ips)
                spent = [
                    (cpu.seconds(each) - start) / (rate * SLICE) * 1e6
                    for each, start in zip(pids, before, strict=True)
                ]
                if number >= 0:
                    measured.append(Round(rate, *spent))
    many, one = (
        Round(*(statistics.median(column) for column in zip(*measured, strict=True)))
        for measured in rounds.values()
    )
    return [
        Row(
            f"refreshes, {CONNECTIONS} devices at {CONNECTIONS} IP addresses, one process",
            f"{many.rate:,.0f} /s",
            "",
            "",
            "at least 2,500",
        ),
        Row(
            "CPU of a refresh",
            f"service {many.service:.0f} µs",
            f"PostgreSQL {many.postgres:.0f} µs",
            "",
            "at most 250 and 350",
        ),
        Row(
            f"refreshes, {CONNECTIONS} devices at one IP address",
            f"{one.rate:,.0f} /s",
            f"CPU: service {one.service:.0f} µs, PostgreSQL {one.postgres:.0f} µs",
            f"{one.rate / many.rate:.2f} of those at {CONNECTIONS}",
        ),
    ]


def _refresh(url: str, current: list[str], ips: int) -> float:
    """Return the refreshes a second of the sessions whose refresh tokens are ``current``."""

    def refresh(index: int, previous: bytes) -> bytes:
        if previous:
            current[index] = json.loads(previous)["refresh_token"]
        body = json.dumps({"refresh_token": current[index]}).encode()
        return request("POST", "/api/auth/refresh", body=body)

    return uvloop.run(closed_loop(url, refresh, SLICE, len(current), ips))
