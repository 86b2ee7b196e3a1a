"""Writes with the cache on and off: the cost of waiting for invalidations before a response."""

import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import servers
from bench.load import post
from bench.sessions import SECRET, open_sessions
from bench.table import Row

CONNECTIONS = (8, 32)
ROUNDS = 5
SLICE = 1  # Seconds. Short, because the speed of a shared machine changes between slices.
AUTHORS = 32
LOGOUTS = 4_000  # Sessions for one slice: more than it can end.
SESSIONS = (1 + ROUNDS) * 2 * len(CONNECTIONS) * LOGOUTS + 1_000

ARTICLE = {"title": "Bench", "description": "Written by the bench", "body": "Once"}
COMMENT = json.dumps({"comment": {"body": "Nothing but a comment"}})


def measure(report: Callable[[str], None]) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes about a minute."""
    with open_sessions(SESSIONS, report) as sessions:
        settings = {"DATABASE_URL": sessions.database_url, "JWT_SECRET": SECRET}
        with servers.service(**settings, USER_CACHE_SIZE="0") as uncached:
            authors = [access for access, _ in sessions.take(AUTHORS)]
            servers.call(f"{sessions.base}/api/articles", {"article": ARTICLE}, authors[0])

            def comment(base: str, connections: int) -> float:
                url = f"{base}/api/articles/bench/comments"
                return _post(url, authors, connections, COMMENT)

            def log_out(base: str, connections: int) -> float:
                tokens = [access for access, _ in sessions.take(LOGOUTS)]
                return _post(f"{base}/api/auth/logout", tokens, connections)

            bases = (sessions.base, uncached.url)
            return [
                _row(f"{name}, {connections} connections", act, connections, bases, report)
                for name, act in (("comments", comment), ("logouts", log_out))
                for connections in CONNECTIONS
            ]


def _row(
    what: str,
    act: Callable[[str, int], float],
    connections: int,
    bases: tuple[str, str],
    report: Callable[[str], None],
) -> Row:
    """Measure the median rates of both services.

    The services take turns, so that a machine that slows down affects both.
    """
    report(f"{what}, with the cache on and off in turn ...")
    rates: tuple[list[float], list[float]] = ([], [])
    for number in range(-1, ROUNDS):  # The first is a warm-up.
        for side, base in enumerate(bases):
            rate = act(base, connections)
            if number >= 0:
                rates[side].append(rate)
    cached, uncached = (statistics.median(side) for side in rates)
    return Row(what, f"{cached:,.0f} /s", f"{uncached:,.0f} /s", f"{cached / uncached:.2f}")


def _post(url: str, tokens: list[str], connections: int, body: str | None = None) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".tokens") as file:
        file.write("\n".join(tokens))
        file.flush()
        load = post(url, Path(file.name), body, seconds=SLICE, connections=connections)
    return load.rate
