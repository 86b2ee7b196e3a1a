"""Show what users wrote on a terminal, safely and aligned, and ask the operator.

A username, a user agent or an identity may contain any character. On a terminal some of them move
the cursor, change the title or hide text. None of them reaches it.
"""

import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

import orjson

from service.signals import interruptible

REPLACEMENT = "\ufffd"
ELLIPSIS = "\u2026"
GAP = "  "
MIN_COLUMN = 6
"""Characters below which no column of a table is cut."""

# The controls, the invisible format characters, the separators of lines, surrogates and private
# characters. Emoji and some scripts need the joiners, which cannot hide anything.
_UNSAFE_CATEGORIES = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"
# Also for outputs with another encoding than UTF-8. JSON escapes the C0 controls itself.
_UNSAFE_IN_JSON = re.compile(r"[^\n -~]")


class NoTerminalError(Exception):
    """There is no terminal to ask. The message is one sentence."""

    exit_status = 2


def safe(value: object) -> str:
    """Return ``value`` as text without characters that control a terminal."""
    return "".join(
        REPLACEMENT
        if unicodedata.category(character) in _UNSAFE_CATEGORIES and character not in _JOINERS
        else character
        for character in str(value)
    )


def width_of(text: str) -> int:
    """Return the number of columns that ``text`` takes on a terminal."""
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if character in _JOINERS or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """Return ``text``, or its start and an ellipsis, in at most ``width`` columns."""
    if width_of(text) <= width:
        return text
    kept, left = [], width - 1
    for character in text:
        left -= _width(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + ELLIPSIS if width > 0 else ""


def terminal_width() -> int | None:
    """Return the columns of the terminal, or ``None`` if the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(header: Sequence[str], rows: Sequence[Sequence[object]], width: int | None) -> list[str]:
    """Return the lines of a table whose columns are aligned. Each value is made ``safe``.

    If the table is wider than ``width``, its widest columns are cut, and then the lines. ``None``
    is no limit.
    """
    cells = [list(header), *([safe(value) for value in row] for row in rows)]
    widths = [max(width_of(row[column]) for row in cells) for column in range(len(header))]
    if width is not None:
        available = width - len(GAP) * (len(header) - 1)
        while sum(widths) > available and max(widths) > MIN_COLUMN:
            widths[widths.index(max(widths))] -= 1
    lines = []
    for row in cells:
        parts = [cut(cell, size) for cell, size in zip(row, widths, strict=True)]
        padded = (
            part + " " * (size - width_of(part)) for part, size in zip(parts, widths, strict=True)
        )
        line = GAP.join(padded).rstrip()
        lines.append(line if width is None else cut(line, width))
    return lines


def escape_json(text: str) -> str:
    """Write the JSON ``text`` in printable ASCII. Its value is the same."""
    return _UNSAFE_IN_JSON.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def write_json(value: Any) -> None:
    """Print ``value`` as one line of JSON."""
    print(escape_json(orjson.dumps(value).decode()))


def confirm(question: str, *, yes: bool, otherwise: str) -> bool:
    """Ask the operator, unless ``yes``. Return whether they agree.

    Without a terminal raise ``NoTerminalError``. ``otherwise`` says what ``--yes`` does.
    """
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise NoTerminalError(
            f"Nothing was done: there is no terminal to ask. Add --yes to {otherwise}."
        )
    with interruptible():
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")
