"""The table of results: printed, and stored next to the scripts."""

import platform
from dataclasses import dataclass
from pathlib import Path

from service.accounts.passwords.hasher import usable_cores


@dataclass(frozen=True)
class Row:
    """One result: its name, its figure, a second figure, and a ratio that machines can compare."""

    what: str
    figure: str
    beside: str
    ratio: str


def render(title: str, heads: tuple[str, str, str], rows: list[Row]) -> str:
    """Return a Markdown table of ``rows`` below ``title``; ``heads`` name the three figures."""
    cells = [("", *heads), *((r.what, r.figure, r.beside, r.ratio) for r in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    machine = f"Python {platform.python_version()}, {usable_cores()} cores"
    return f"## {title}\n\n{machine}. Compare the ratios: the figures are this machine's.\n\n" + (
        "\n".join(lines) + "\n"
    )


def store(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
