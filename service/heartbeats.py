"""Heartbeats from the workers to the parent, and the end of a child with its parent."""

import ctypes
import mmap
import os
import signal
import sys

HEARTBEAT_INTERVAL = 1.0  # Seconds between two heartbeats, and between two checks by the parent.
MAX_SILENT_CHECKS = 20  # A worker hangs when so many consecutive checks find no heartbeat.
PR_SET_PDEATHSIG = 1


class Heartbeats:
    """Detect hanging workers through one byte of shared memory per worker.

    A worker sets its byte; the parent reads and clears it. The limit is a number of checks, not of
    seconds, so that a suspension of the machine does not count (``docs/decisions/supervisor.md``).
    """

    def __init__(self, count: int) -> None:
        """Allocate the shared memory for ``count`` workers, before they are forked."""
        self._flags = mmap.mmap(-1, count)
        self._silent_checks: list[int | None] = [None] * count  # None: not watched yet.

    def send(self, index: int) -> None:
        """Send a heartbeat from the worker at ``index``."""
        self._flags[index] = 1

    def reset(self, index: int) -> None:
        """Clear the state of ``index``. A new worker is watched from its first heartbeat on."""
        self._flags[index] = 0
        self._silent_checks[index] = None

    def find_hanging(self) -> list[int]:
        """Check for heartbeats, and return the indexes of the workers that reach the limit now."""
        hanging = []
        for index, silent_checks in enumerate(self._silent_checks):
            if self._flags[index]:
                self._flags[index] = 0
                self._silent_checks[index] = 0
            elif silent_checks is not None:
                self._silent_checks[index] = silent_checks + 1
                if silent_checks + 1 == MAX_SILENT_CHECKS:
                    hanging.append(index)
        return hanging


def exit_with_parent(parent: int) -> None:
    """Ask the kernel to send SIGTERM to this worker when the parent process dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # The parent died before the call.
            os._exit(1)
