"""Lists, articles, profiles, tags and comments, against a bare handler with one query by key."""

import statistics
from dataclasses import dataclass, field
from itertools import cycle, islice

import uvloop

from bench import cpu, servers
from bench.client import closed_loop, request
from bench.site import ARTICLES, USERS, site
from bench.table import Report, Row

ROUNDS = 5
SLICE = 1.0  # Seconds.
PREPARED = 5_000


@dataclass(eq=False)
class Subject:
    """What is requested, of which server, and the rates of the rounds."""

    what: str
    url: str
    requests: list[bytes]
    pids: list[int]
    aim: str = ""
    connections: int = 32
    rates: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)

    def load(self, report: Report) -> None:
        """Send the requests for one slice of time."""
        requests = cycle(self.requests)
        before = cpu.seconds(self.pids)
        rate = uvloop.run(closed_loop(self.url, lambda *_: next(requests), SLICE, self.connections))
        self.rates.append(rate)
        self.spent.append((cpu.seconds(self.pids) - before) / (rate * SLICE) * 1e6)

    @property
    def rate(self) -> float:
        """The median rate."""
        return statistics.median(self.rates)


def measure(report: Report) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes a minute."""
    with (
        site(report) as filled,
        filled.warm_service(1) as service,
        servers.bare(b'{"user":{}}', filled.database_url) as bare,
    ):
        pids = cpu.workers(service.pid)
        users = [request("GET", f"/users/user{n}") for n in range(1, USERS + 1)]

        def of(kind: str) -> list[bytes]:
            return list(islice(filled.requests({kind: 1}), PREPARED))

        query = Subject("bare handler with one query by key", bare.url, users, [bare.pid])
        nothing = Subject("bare handler without a query", bare.url, of("user"), [bare.pid])
        named = {
            "list": ("GET /api/articles?limit=20, anonymous", "at least 0.45"),
            "list, signed in": ("the same, signed in", "at least 0.40"),
            "article": ("GET /api/articles/{slug}", "at least 0.70"),
            "profile": ("GET /api/profiles/{username}", "at least 0.80"),
            "tags": ("GET /api/tags", "at least 0.60"),
            "comment": ("comment, 8 connections", "at least 0.45"),
        }
        subjects = [
            Subject(what, service.url, of(kind), pids, aim, 8 if kind == "comment" else 32)
            for kind, (what, aim) in named.items()
        ]
        for number in range(ROUNDS):
            report(f"{ARTICLES:,} articles: reads and comments, round {number + 1} of {ROUNDS} ...")
            for subject in (query, nothing, *subjects):
                subject.load(report)
    rows = [_row(subject, "") for subject in (query, nothing)]
    for subject in subjects:
        against, name = (
            (nothing, "without a query") if "tags" in subject.what else (query, "with one query")
        )
        rows.append(_row(subject, f"{subject.rate / against.rate:.2f} of the handler {name}"))
    return rows


def _row(subject: Subject, ratio: str) -> Row:
    spent = f"CPU a request {statistics.median(subject.spent):.0f} µs"
    return Row(subject.what, f"{subject.rate:,.0f} /s", spent, ratio, subject.aim)
