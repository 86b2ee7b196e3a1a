"""``make bench``: measure, print the tables, keep them in ``bench/``."""

import sys
from pathlib import Path

from bench import accounts
from bench.load import require_wrk
from bench.table import keep, render

HERE = Path(__file__).parent


def report(line: str) -> None:
    """Tell the person at the terminal what goes on."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure everything."""
    require_wrk()
    text = render("Accounts", accounts.measure(report))
    keep(HERE / "accounts.md", text)
    print(text)


if __name__ == "__main__":
    main()
