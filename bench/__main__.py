"""``make bench``: run the benchmarks, print the tables and write them to ``bench/``."""

import sys
from pathlib import Path

from bench import (
    accounts,
    conduit,
    deletion,
    embedded,
    heartbeats,
    mail,
    mail_outages,
    sessions,
    start,
    tokens,
    writes,
)
from bench.load import require_wrk
from bench.table import render, store

HERE = Path(__file__).parent


def report(line: str) -> None:
    """Print a line about the progress to stderr."""
    print(line, file=sys.stderr, flush=True)


PARTS = {
    "accounts": ("Accounts", accounts.measure, ("figure", "", "ratio")),
    "sessions": ("Sessions", sessions.measure, ("figure", "", "ratio")),
    "tokens": ("Access tokens", tokens.measure, ("the service", "PyJWT", "ratio")),
    "start": ("The start of the service", start.measure, ("median", "longest", "aim")),
    "embedded": ("The embedded PostgreSQL", embedded.measure, ("median", "longest", "")),
    "heartbeats": ("Heartbeats", heartbeats.measure, ("reserved", "in the queue", "ratio")),
    "mail": ("Mails", mail.measure, ("four at a time", "one at a time", "ratio")),
    "mail_outages": (
        "Mail servers that are away",
        mail_outages.measure,
        ("accepting", "away", "ratio"),
    ),
    "writes": ("Writes and the cache", writes.measure, ("cache on", "cache off", "ratio")),
    "conduit": (
        "Lists as the data grows",
        conduit.measure,
        ("10,000 articles", "1,000,000 articles", "ratio"),
    ),
    "deletion": (
        "Deletion of a large account",
        deletion.measure,
        ("without a deletion", "during it", "ratio"),
    ),
}
WITHOUT_WRK = {"embedded", "start", "heartbeats", "mail", "mail_outages", "tokens"}


def main() -> None:
    """Run the parts that the arguments name, or all parts without arguments."""
    names = sys.argv[1:] or list(PARTS)
    if not set(names) <= WITHOUT_WRK:
        require_wrk()
    for name in names:
        title, measure, heads = PARTS[name]
        text = render(title, heads, measure(report))
        store(HERE / f"{name}.md", text)
        print(text)


if __name__ == "__main__":
    main()
