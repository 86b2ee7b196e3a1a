"""The CPU time of processes, from /proc. Needs Linux."""

import contextlib
import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> dict[int, str]:
    """Return the names of the process ``pid`` and of all processes below it, by their ids."""
    found: dict[int, str] = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found |= tree(int(child))
    return found


def seconds(pids: list[int]) -> float:
    """Return the CPU seconds, user and system, that the processes have used so far."""
    used = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
    return used / TICKS


def workers(pid: int) -> list[int]:
    """Return the ids of the serving processes of the service whose parent is ``pid``."""
    return [child for child, name in tree(pid).items() if child != pid and "postgres" not in name]
