"""The page of results: bench/README.md, with one section for each part."""

import datetime
import platform
import re
from pathlib import Path

from bench.table import Row
from service.accounts.passwords.hasher import usable_cores

PAGE = Path(__file__).with_name("README.md")


def section(name: str, title: str, note: str, heads: tuple[str, str, str], rows: list[Row]) -> str:
    """Return the section of a part: its title, when and where it was measured, note and table."""
    machine = f"Python {platform.python_version()}, {usable_cores()} cores"
    when = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, `python -m bench {name}`, {machine}."
    return "\n\n".join([f"## {title}", f"{when} {note}".strip(), table(heads, rows)]) + "\n"


def table(heads: tuple[str, str, str], rows: list[Row]) -> str:
    """Return a Markdown table of ``rows``; ``heads`` name the three figures."""
    cells = [("", *heads, "aim"), *((r.what, r.figure, r.beside, r.ratio, r.aim) for r in rows)]
    # Without any aim there is no column for it.
    columns = 5 if any(row.aim for row in rows) else 4
    lines = ["| " + " | ".join(row[:columns]) + " |" for row in cells]
    lines.insert(1, "|" + " --- |" * columns)
    return "\n".join(lines)


def store(new: str, titles: list[str]) -> None:
    """Replace a section of ``bench/README.md`` atomically. ``titles`` has their order."""
    draft = PAGE.with_suffix(".draft")
    draft.write_text(_replace(PAGE.read_text(encoding="utf-8"), new, titles), encoding="utf-8")
    draft.replace(PAGE)


def _replace(text: str, new: str, titles: list[str]) -> str:
    head, *found = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    sections = {section.partition("\n")[0]: section for section in [*found, new]}
    ordered = [sections[f"## {title}"] for title in titles if f"## {title}" in sections]
    return "\n\n".join(part.strip() for part in [head, *ordered]) + "\n"
