"""The processes of the embedded PostgreSQL: started, recognised, awaited and ended.

Every program is started *inside* its data folder, entered while still root, and told to use
`/proc/self/cwd`: an unprivileged process then works below folders that it may not pass through.
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
_PREVIOUS_SECONDS = 60.0
_SHUTDOWN = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class EmbeddedError(Exception):
    """One clear sentence for the person at the terminal."""


@dataclass(frozen=True)
class Owner:
    """The user and group ids, never 0, which PostgreSQL runs as."""

    uid: int
    gid: int


def spawn_options(owner: Owner, folder: Path, death_signal: signal.Signals) -> dict[str, Any]:
    """Build the Popen options that run a program as `owner` inside `folder`.

    On Linux the kernel sends `death_signal` to the program when the thread that started it ends.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            # The parent may have gone before the call above, and then no signal would ever come.
            if os.getppid() != parent:
                os._exit(1)

    # The service's own environment holds secrets, and PG* variables would change what is started.
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
        "preexec_fn": die_with_parent,
    }


def data_argument(folder: Path) -> str:
    """Name the data folder to a program that was started inside it."""
    return "/proc/self/cwd" if sys.platform == "linux" else str(folder)


def cluster_name(folder: Path) -> str:
    """Name a data folder for the command lines of its processes, by whatever path it is reached."""
    status = folder.stat()
    return f"conduit-{status.st_dev:x}-{status.st_ino:x}"


def wait_for_previous_server(folder: Path, owner: Owner, report: Callable[[str], None]) -> None:
    """Wait until no process of an earlier server over the data `folder` is left.

    Raises EmbeddedError when the earlier server is still there after a minute. Where there is no
    /proc to tell, it is left to PostgreSQL to refuse a second start.
    """
    if sys.platform != "linux" or not folder.exists():
        return
    deadline = time.monotonic() + _PREVIOUS_SECONDS
    reported = False
    while processes := _server_processes(cluster_name(folder).encode(), owner.uid):
        if not any(processes.values()):
            # Without their server these can only finish queries whose results nobody gets.
            for orphan in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
        elif time.monotonic() > deadline:
            raise EmbeddedError(
                f"A PostgreSQL of an earlier start, process {min(processes)}, still uses {folder}:"
                " stop that process, or set DATA_DIR to another folder."
            )
        elif not reported:
            reported = True
            report("Waiting for the PostgreSQL of an earlier start to finish ...")
        time.sleep(_POLL_SECONDS)


def is_ready(folder: Path, pid: int) -> bool:
    """Tell whether the server `pid` over the data `folder` accepts connections."""
    # The server keeps its state in the last line of this file, which is what pg_ctl reads too.
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def end(process: subprocess.Popen[bytes]) -> None:
    """Shut a server down: fast, then at once, then by force; at most 30 s. Nothing if it ended."""
    for number, seconds in _SHUTDOWN:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def _server_processes(cluster_name: bytes, uid: int) -> dict[int, bool]:
    """Find the processes of a cluster by their command lines; True for the server itself.

    Containers often hide a process's folder and program even from root, but not its command line.
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
    """Tell whether a recorded process id, or what should be one, names a running process."""
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
