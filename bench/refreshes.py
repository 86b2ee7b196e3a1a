"""Refreshes: their rate, and the CPU of the service and of PostgreSQL."""

import json
import statistics

import uvloop

from bench import cpu
from bench.client import closed_loop, request
from bench.site import site
from bench.table import Report, Row

CONNECTIONS = 8
ROUNDS = 5
SLICE = 2.0  # Seconds.


def measure(report: Report) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes 20 seconds."""
    rates, served, stored = [], [], []
    with site(report) as filled, filled.warm_service(1) as service:
        current = filled.refresh_tokens[:CONNECTIONS]

        def refresh(index: int, previous: bytes) -> bytes:
            if previous:
                current[index] = json.loads(previous)["refresh_token"]
            body = json.dumps({"refresh_token": current[index]}).encode()
            return request("POST", "/api/auth/refresh", body=body)

        for number in range(-1, ROUNDS):  # The first is a warm-up.
            report(f"Refreshes, {CONNECTIONS} connections, round {number + 1} of {ROUNDS} ...")
            # Sessions of its own, because the last responses of a round are not read.
            current = filled.refresh_tokens[(number + 1) * CONNECTIONS :][:CONNECTIONS]
            pids = cpu.workers(service.pid), list(cpu.tree(filled.postgres))
            before = [cpu.seconds(each) for each in pids]
            rate = uvloop.run(closed_loop(service.url, refresh, SLICE, CONNECTIONS))
            spent = [
                (cpu.seconds(each) - start) / (rate * SLICE) * 1e6
                for each, start in zip(pids, before, strict=True)
            ]
            if number >= 0:
                rates.append(rate)
                served.append(spent[0])
                stored.append(spent[1])
    return [
        Row(
            f"refreshes, {CONNECTIONS} connections, one process",
            f"{statistics.median(rates):,.0f} /s",
            "",
            "",
            "at least 2,500",
        ),
        Row(
            "CPU of a refresh",
            f"service {statistics.median(served):.0f} µs",
            f"PostgreSQL {statistics.median(stored):.0f} µs",
            "",
            "at most 250 and 350",
        ),
    ]
