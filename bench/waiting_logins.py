"""Correct logins of one account at the same moment, and another request beside them.

Run ``python -m bench.waiting_logins 500``. docs/decisions/exact-throttling.md has the results.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from bench import servers
from service.database.migrate import migrate
from service.embedded_postgres.server import EmbeddedServer
from service.settings.missing import LOWEST_PRODUCTION_COST

USER = {"username": "bench", "email": "bench@example.test", "password": "bench-bench"}
SECRET = "only for a database that is thrown away after the bench"  # noqa: S105
PAUSE = 0.01  # Seconds between two requests beside the logins.


async def measure(url: str, database_url: str, logins: int) -> str:
    """Send ``logins`` correct logins at once and return one line about them."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        async with session.post("/api/users", json={"user": USER}) as response:
            assert response.status == 200, await response.text()
        calm = await _others(session, asyncio.create_task(asyncio.sleep(3)))
        before, started = _transactions(database_url), time.monotonic()
        storm = asyncio.gather(*(_log_in(session) for _ in range(logins)))
        others = await _others(session, storm)
        seconds = time.monotonic() - started
        transactions = _transactions(database_url) - before
        return (
            f"{dict(Counter(await storm))} in {seconds:.1f} s, {transactions} transactions; "
            f"GET /api/tags p99 {calm:.0f} ms before, {others:.0f} ms meanwhile"
        )


async def _log_in(session: aiohttp.ClientSession) -> int:
    async with session.post("/api/users/login", json={"user": USER}) as response:
        await response.read()
        return response.status


async def _others(session: aiohttp.ClientSession, until: "asyncio.Future[Any]") -> float:
    """Request the tags until the future ``until`` is done; return the p99 in milliseconds."""
    times = []
    while not until.done():
        started = time.monotonic()
        async with session.get("/api/tags") as response:
            await response.read()
        times.append((time.monotonic() - started) * 1000)
        await asyncio.sleep(PAUSE)
    return statistics.quantiles(times, n=100)[98]


def _transactions(database_url: str) -> int:
    """Return the transactions of the server, after a second in which its processes report them."""
    time.sleep(1.1)
    with psycopg.connect(database_url) as connection:
        row = connection.execute("select sum(xact_commit)::bigint from pg_stat_database").fetchone()
    assert row is not None
    return int(row[0])


def main() -> None:
    """Measure as many logins as the argument says, on an embedded server of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as data:
        database = EmbeddedServer(Path(data), lambda _: None)
        database_url = database.start()
        try:
            migrate(database_url, lambda _: None)
            with servers.service(
                DATABASE_URL=database_url,
                JWT_SECRET=SECRET,
                BCRYPT_COST=str(LOWEST_PRODUCTION_COST),
            ) as service:
                print(asyncio.run(measure(service.url, database_url, int(sys.argv[1]))))
        finally:
            database.stop()


if __name__ == "__main__":
    main()
