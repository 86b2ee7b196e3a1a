"""Start, find, wait for and stop the processes of the embedded PostgreSQL.

Each program starts *inside* its data folder, which the process enters while it is still root, and
uses ``/proc/self/cwd`` as the path. An unprivileged process can then work in the data folder
without permission to traverse the folders above it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.02
_PREVIOUS_SERVER_SECONDS = 60.0
_SHUTDOWN_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be used. The message is one sentence for the terminal."""

    exit_status = 1


class EmbeddedInUse(EmbeddedError):
    """Another process runs the embedded PostgreSQL.

    ``dsn`` connects to it. It is ``None`` if that process has not recorded its socket yet.
    """

    def __init__(self, message: str, dsn: str | None) -> None:
        super().__init__(message)
        self.dsn = dsn


@dataclass(frozen=True)
class Owner:
    """The user id and group id that PostgreSQL runs as, never 0."""

    uid: int
    gid: int


def spawn_options(owner: Owner, folder: Path, death_signal: signal.Signals) -> dict[str, Any]:
    """Return the Popen options that run a program as ``owner`` in the working directory ``folder``.

    On Linux the kernel sends ``death_signal`` to the program when the thread that started it exits.
    """
    parent = os.getpid()

    def exit_with_parent() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            # If the parent died before the call above, the kernel sends no signal.
            if os.getppid() != parent:
                os._exit(1)

    # Do not pass on the whole environment: it contains secrets, and PG* variables would change the
    # settings of the program.
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        "cwd": folder,
        "user": owner.uid,
        "group": owner.gid,
        "extra_groups": [] if os.geteuid() == 0 else None,
        "umask": 0o077,
        "env": {**kept, "LC_ALL": "C", "TZ": "UTC"},
        "stdin": subprocess.DEVNULL,
        "start_new_session": True,
        "preexec_fn": exit_with_parent,
    }


def data_argument(folder: Path) -> str:
    """Return the path of the data folder for a program that starts inside it."""
    return "/proc/self/cwd" if sys.platform == "linux" else str(folder)


def cluster_name(folder: Path) -> str:
    """Return a name for a data folder that is the same for every path to it.

    PostgreSQL shows the name in the command lines of its processes.
    """
    status = folder.stat()
    return f"conduit-{status.st_dev:x}-{status.st_ino:x}"


def wait_for_previous_server(folder: Path, owner: Owner, report: Callable[[str], None]) -> None:
    """Wait until every process of an earlier server on the data ``folder`` has exited.

    Raise EmbeddedError if the earlier server still runs after 60 seconds. On systems without /proc
    do nothing; there PostgreSQL itself rejects a second start.
    """
    if sys.platform != "linux" or not folder.exists():
        return
    deadline = time.monotonic() + _PREVIOUS_SERVER_SECONDS
    is_reported = False
    while processes := _server_processes(cluster_name(folder).encode(), owner.uid):
        if not any(processes.values()):
            # The server process is gone, so no client can receive the results of these processes.
            for orphan in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
        elif time.monotonic() > deadline:
            raise EmbeddedError(
                f"A PostgreSQL of an earlier start, process {min(processes)}, still uses {folder}:"
                " stop that process, or set DATA_DIR to another folder."
            )
        elif not is_reported:
            is_reported = True
            report("Waiting for the PostgreSQL of an earlier start to exit ...")
        time.sleep(_POLL_SECONDS)


def is_ready(folder: Path, pid: int) -> bool:
    """Return whether the server with the process id ``pid`` accepts connections on ``folder``."""
    # The server writes its state to the last line of this file. pg_ctl reads the same line.
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


class AdoptedProcess:
    """A child process that was started before this process executed its present program."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return ``None`` while the process runs."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # Reaped before.
                self.returncode = 0
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, seconds: float) -> None:
        """Wait for the exit of the process. Raise ``TimeoutExpired`` after ``seconds``."""
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("postgres", seconds)
            time.sleep(_POLL_SECONDS)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process if it has not exited."""
        if self.poll() is None:
            os.kill(self.pid, number)


def stop_process(process: subprocess.Popen[bytes] | AdoptedProcess) -> None:
    """Stop a server: fast shutdown, immediate shutdown, then SIGKILL, within 30 seconds in total.

    Do nothing if the server has already exited.
    """
    for number, seconds in _SHUTDOWN_SIGNALS:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def _server_processes(cluster_name: bytes, uid: int) -> dict[int, bool]:
    """Return the process ids of a cluster. The value is True only for the server itself.

    Find them by their command lines: containers often hide the working directory and the executable
    of a process even from root, but not its command line.
    """
    found: dict[int, bool] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid != uid:
                continue
            command = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        arguments = command.split(b"\0")
        if b"cluster_name=" + cluster_name in arguments and arguments[0].endswith(b"/postgres"):
            found[int(entry.name)] = True
        elif command.startswith(b"postgres: " + cluster_name + b":"):
            found[int(entry.name)] = False
    return found


def is_alive(pid: str) -> bool:
    """Return whether ``pid``, as recorded in the lock file, is the id of a running process.

    Return False if the text is not a number.
    """
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
