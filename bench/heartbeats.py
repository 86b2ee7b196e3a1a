"""Heartbeats on the reserved connection and in the queue of the pool, idle and under load."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sql
from bench.table import Row
from service.database.pool import Database
from service.embedded_postgres.server import EmbeddedServer

POOL_SIZE = 16
WAITING = 400  # Statements that run or wait at any time under load.
STATEMENT_SECONDS = 0.05
COUNT = 40  # Heartbeats for one figure.
MILLISECONDS = 1000


def measure(report: Callable[[str], None]) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes two minutes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = EmbeddedServer(Path(folder) / "data", report)
        url = server.start()
        try:
            report(f"Sending heartbeats, idle and with {WAITING} statements in the queue ...")
            return asyncio.run(_measure(url))
        finally:
            server.stop()


async def _measure(url: str) -> list[Row]:
    database = Database(url, POOL_SIZE)
    await database.open()
    statement = sql.parse(
        Path("bench.sql"), f"-- name: sleep() -> none\nselect pg_sleep({STATEMENT_SECONDS})"
    ).sleep

    async def run_statements() -> None:
        while True:
            await statement(database)

    try:
        await _both(database)  # Opens the connections.
        rows = [_row("idle", *(await _both(database)))]
        load = [asyncio.create_task(run_statements()) for _ in range(WAITING)]
        await asyncio.sleep(1)
        name = f"{WAITING} statements of {STATEMENT_SECONDS * MILLISECONDS:.0f} ms"
        rows.append(_row(name, *(await _both(database))))
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
        return rows
    finally:
        await database.close()


async def _both(database: Database) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each heartbeat, on the reserved connection and in the queue."""
    reserved: list[float] = []
    queued: list[float] = []
    for _ in range(COUNT):
        for runner, times in ((database.reserved, reserved), (database, queued)):
            started = time.perf_counter()
            assert await sql.change_listener.send_heartbeat(runner, channel="bench")
            times.append((time.perf_counter() - started) * MILLISECONDS)
    return reserved, queued


def _row(what: str, reserved: list[float], queued: list[float]) -> Row:
    medians = statistics.median(reserved), statistics.median(queued)
    return Row(
        f"{what}: median, longest",
        f"{medians[0]:.1f} ms, {max(reserved):.1f} ms",
        f"{medians[1]:.1f} ms, {max(queued):.1f} ms",
        f"{medians[0] / medians[1]:.3f}",
    )
