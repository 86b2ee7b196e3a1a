"""``make bench``: run the benchmarks, print the tables and write them to ``bench/README.md``."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import (
    accounts,
    conduit,
    deletion,
    embedded,
    heartbeats,
    mail,
    mail_outages,
    metrics,
    page,
    pooler,
    processes,
    reads,
    refreshes,
    request_parts,
    sessions,
    sign_in,
    start,
    telemetry,
    token_algorithms,
    tokens,
    traffic,
    writes,
)
from bench.load import require_wrk
from bench.table import Report, Row


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    title: str
    measure: Callable[[Report], list[Row]]
    heads: tuple[str, str, str]
    note: str = ""
    uses_wrk: bool = False
    # Not in `make bench`, which would take longer than ten minutes: run it by its name.
    by_name: bool = False


RATIO = ("figure", "", "ratio")
PARTS = {
    "traffic": Part(
        "Mixed requests",
        traffic.measure,
        RATIO,
        "Random sessions request lists (30 %), articles (25 %), the user (20 %), profiles (10 %)"
        " and tags (10 %), and write comments (3 %) and favourites (2 %). Client, service and"
        " PostgreSQL share the cores. Past the capacity a latency grows as long as the load lasts"
        f" (here {traffic.SLICE} s).",
    ),
    "processes": Part(
        "One process and two",
        processes.measure,
        RATIO,
        "wrk needs most of a core, so two processes on two cores are limited by it. The last rows"
        " limit each process to a part of a core (by a control group, which needs root): then the"
        " processes are the limit, and wrk has what it needs.",
        uses_wrk=True,
    ),
    "reads": Part("Lists, articles and comments", reads.measure, RATIO),
    "refreshes": Part("Refreshes", refreshes.measure, RATIO),
    "accounts": Part("Logins", accounts.measure, RATIO, uses_wrk=True),
    "start": Part("The start of the service", start.measure, ("median", "longest", "aim")),
    "tokens": Part("Access tokens", tokens.measure, ("the service", "PyJWT", "ratio")),
    "token_algorithms": Part(
        "Access tokens of other algorithms",
        token_algorithms.measure,
        ("HS256", "ES256", "EdDSA"),
        "A process verifies a token once, and then finds its claims in the cache.",
        by_name=True,
    ),
    "writes": Part(
        "Writes and the cache",
        writes.measure,
        ("cache on", "cache off", "ratio"),
        uses_wrk=True,
    ),
    "metrics": Part(
        "Metrics",
        metrics.measure,
        ("first", "second", "ratio"),
        "The CPU time of one process without sockets. The ratio is the median of many short slices"
        " that take turns.",
        by_name=True,
    ),
    "request_parts": Part(
        "The parts of a request for the current user",
        request_parts.measure,
        ("the part", "with the parts before it", "of the bare handler"),
        "The CPU time of one process without sockets. Each row adds a part to the row before,"
        " and is its fastest round. The smallest parts are below the noise of some 0.5 µs.",
        by_name=True,
    ),
    "sign_in": Part(
        "The parts of a login",
        sign_in.measure,
        ("median", "fastest", "of the login"),
        "One login after the other, almost without a hash, whose time is subtracted. The parts are"
        " measured on their own, in turn with the logins.",
        by_name=True,
    ),
    "heartbeats": Part(
        "Heartbeats", heartbeats.measure, ("reserved", "in the queue", "ratio"), by_name=True
    ),
    "pooler": Part(
        "Through PgBouncer",
        pooler.measure,
        ("direct", "through PgBouncer", "ratio"),
        "The CPU time of a request is that of the service, and of PgBouncer where it goes through."
        " All of them share the cores with PostgreSQL and the client."
        " `TEST_PGBOUNCER=/path/to/pgbouncer` measures another version than the installed one.",
        by_name=True,
    ),
    "embedded": Part(
        "The embedded PostgreSQL", embedded.measure, ("median", "longest", ""), by_name=True
    ),
    "mail": Part("Mails", mail.measure, ("four at a time", "one at a time", "ratio"), by_name=True),
    "mail_outages": Part(
        "Mail servers that are away",
        mail_outages.measure,
        ("accepting", "away", "ratio"),
        by_name=True,
    ),
    "sessions": Part("A million sessions", sessions.measure, RATIO, uses_wrk=True, by_name=True),
    "conduit": Part(
        "Lists as the data grows",
        conduit.measure,
        ("10,000 articles", "1,000,000 articles", "ratio"),
        by_name=True,
    ),
    "telemetry": Part(
        "Error reports and traces", telemetry.measure, ("figure", "", "ratio"), by_name=True
    ),
    "deletion": Part(
        "Deletion of a large account",
        deletion.measure,
        ("without a deletion", "during it", "ratio"),
        by_name=True,
    ),
}
BEGIN = time.monotonic()


def report(line: str) -> None:
    """Print a line about the progress to stderr."""
    minutes, seconds = divmod(int(time.monotonic() - BEGIN), 60)
    print(f"{minutes}:{seconds:02} {line}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the parts that the arguments name; without arguments, those of ``make bench``."""
    names = sys.argv[1:] or [name for name, part in PARTS.items() if not part.by_name]
    if any(PARTS[name].uses_wrk for name in names):
        require_wrk()
    for name in names:
        part = PARTS[name]
        text = page.section(name, part.title, part.note, part.heads, part.measure(report))
        page.store(text, [known.title for known in PARTS.values()])
        print(text)


if __name__ == "__main__":
    main()
