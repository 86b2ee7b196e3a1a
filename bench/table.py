"""A row of the table of results."""

from collections.abc import Callable
from dataclasses import dataclass

# Prints a line about the progress.
Report = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One result: its name, its figure, a second figure, a ratio, and the aim.

    Machines can compare ratios.
    """

    what: str
    figure: str
    beside: str
    ratio: str
    aim: str = ""
