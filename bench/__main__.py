"""``make bench``: measure, print the tables, keep them in ``bench/``."""

import sys
from pathlib import Path

from bench import accounts, conduit, deletion, sessions, writes
from bench.load import require_wrk
from bench.table import keep, render

HERE = Path(__file__).parent


def report(line: str) -> None:
    """Tell the person at the terminal what goes on."""
    print(line, file=sys.stderr, flush=True)


PARTS = {
    "accounts": ("Accounts", accounts.measure, ("figure", "", "ratio")),
    "sessions": ("Sessions", sessions.measure, ("figure", "", "ratio")),
    "writes": ("Writes and the cache", writes.measure, ("cache on", "cache off", "ratio")),
    "conduit": (
        "Lists as the data grows",
        conduit.measure,
        ("10,000 articles", "1,000,000 articles", "ratio"),
    ),
    "deletion": (
        "Deletion of a large account",
        deletion.measure,
        ("without a deletion", "meanwhile", "ratio"),
    ),
}


def main() -> None:
    """Measure every part, or those that are named as arguments."""
    require_wrk()
    for name in sys.argv[1:] or PARTS:
        title, measure, heads = PARTS[name]
        text = render(title, heads, measure(report))
        keep(HERE / f"{name}.md", text)
        print(text)


if __name__ == "__main__":
    main()
