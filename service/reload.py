"""Replace the running service by a new version of itself, in the same process.

``docs/decisions/supervisor.md`` has the steps. What the new program inherits, such as the listening
sockets and the workers, is described by a ``Handover`` in a file without a name. Its descriptor is
an argument of the new program.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import IO, Any, Self

from service.embedded_postgres.server import Inheritance
from service.heartbeats import exit_with_parent

logger = logging.getLogger(__name__)

CHECK_TIMEOUT = 1800.0  # Seconds for the check of a new version, with its migrations.
TRACEBACK = b"Traceback"
MAX_ERROR_BYTES = 2000  # Bytes of the error of a new version that are logged.


@dataclass(frozen=True)
class Handover:
    """What a service passes on to its new version."""

    addresses: list[str | int | None]
    """The settings that must not change."""
    metrics_socket: int | None
    """The descriptor of the socket of ``METRICS_PORT``."""
    sockets: list[int]
    """The descriptors of the listening sockets."""
    workers: dict[int, int]
    """The process ids of the workers, with their indexes."""
    retiring: dict[int, float]
    """The process ids of the workers of former versions, with the time at which to kill them."""
    embedded: Inheritance | None

    def write(self) -> int:
        """Write the handover to a file without a name, and return its descriptor."""
        with _unnamed_file() as file:
            file.write(json.dumps(asdict(self)).encode())
            file.flush()
            return os.dup(file.fileno())

    @classmethod
    def read(cls, descriptor: int) -> Self:
        """Return the handover in the file ``descriptor``, and close it."""
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            values: dict[str, Any] = json.load(file)
        for name in ("workers", "retiring"):
            values[name] = {int(pid): value for pid, value in values[name].items()}
        if values["embedded"] is not None:
            values["embedded"] = Inheritance(**values["embedded"])
        return cls(**values)

    def execute(self) -> None:
        """Replace the program of this process by its new version. Return if that fails."""
        inherited = [*self.sockets]
        if self.metrics_socket is not None:
            inherited.append(self.metrics_socket)
        if self.embedded is not None:
            inherited += self.embedded.descriptors
        try:
            described = self.write()
            inherited.append(described)
            for descriptor in inherited:
                os.set_inheritable(descriptor, True)
            sys.stdout.flush()
            os.execv(sys.executable, _command(described))  # noqa: S606
        except OSError as error:
            for descriptor in inherited:
                os.set_inheritable(descriptor, False)
            logger.error("reload failed, the running version goes on: error=%s", error)


class Check:
    """A child process that checks whether the new version can take over."""

    def __init__(self, handover: Handover) -> None:
        """Start the process. Raise ``OSError`` if that fails."""
        # A file, because the parent reads no pipe while it waits for signals.
        self._errors = _unnamed_file()
        self.deadline = time.monotonic() + CHECK_TIMEOUT
        """The time at which to kill the process."""
        descriptor = handover.write()
        sys.stdout.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            try:
                exit_with_parent(parent)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                os.dup2(self._errors.fileno(), 2)
                os.set_inheritable(descriptor, True)
                os.execv(sys.executable, [*_command(descriptor), "--check"])  # noqa: S606
            finally:
                os._exit(1)
        os.close(descriptor)

    def error(self, status: int) -> str | None:
        """Return why the new version cannot take over, or ``None`` if it can.

        That is what the process wrote to standard error, or the last line of a traceback.
        ``status`` is its status of ``os.waitpid``.
        """
        with self._errors as file:
            size = file.seek(0, os.SEEK_END)
            first = os.pread(file.fileno(), len(TRACEBACK), 0)
            file.seek(max(0, size - MAX_ERROR_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
        if not status:
            return None
        written = [line.strip() for line in lines if line.strip()]
        if not written:
            return f"the check ended with status {status}"
        return written[-1] if first == TRACEBACK else " ".join(written)


def _unnamed_file() -> IO[bytes]:
    """Return a file in memory. A container may have no folder that it may write to."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("reload"), "w+b")
    return tempfile.TemporaryFile()


def _command(handover: int) -> list[str]:
    """Return the command line of the new version: the same program with ``serve``."""
    program = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    return [sys.executable, *program, "serve", "--handover", str(handover)]
