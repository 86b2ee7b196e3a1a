"""The embedded PostgreSQL: how long a start and a stop take."""

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.table import Row
from service.embedded_postgres.server import EmbeddedServer

ROUNDS = 5


def measure(report: Callable[[str], None]) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes a minute."""
    times: dict[str, list[float]] = {}

    def timed(name: str, action: Callable[[], object]) -> None:
        started = time.perf_counter()
        action()
        times.setdefault(name, []).append(time.perf_counter() - started)

    for number in range(1, ROUNDS + 1):
        report(f"Starting and stopping the embedded PostgreSQL, round {number} of {ROUNDS} ...")
        with tempfile.TemporaryDirectory() as folder:
            server = EmbeddedServer(Path(folder) / "data", lambda _: None)
            timed("first start, with initdb", server.start)
            timed("stop", server.stop)
            timed("later start", server.start)
            _kill(server)
            timed("restart after a kill", server.restart)
            server.stop()
    return [
        Row(name, f"{statistics.median(values):.2f} s", f"{max(values):.2f} s", "")
        for name, values in times.items()
    ]


def _kill(server: EmbeddedServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    os.waitpid(server.pid, 0)
