"""Worker process: serve requests and send heartbeats to the parent from the event loop."""

import asyncio
import ctypes
import gc
import mmap
import os
import signal
import socket
import sys

import uvloop

from service import logs
from service.app import create_app
from service.http.server import Server
from service.settings.settings import Settings

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


def run_worker(
    settings: Settings,
    database_url: str,
    sock: socket.socket,
    ready: int | None,
    heartbeats: Heartbeats,
    index: int,
) -> int:
    """Serve requests on ``sock`` until SIGTERM; return the exit status.

    ``ready`` is the writing end of a pipe. When the worker accepts requests, it writes
    one byte to the pipe and closes it.
    """
    # The terminal sends SIGINT to every process on Ctrl-C. The worker ignores it and
    # waits for the SIGTERM of the parent, so that one Ctrl-C has one effect.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.unraisablehook = sys.__unraisablehook__
    blocked = {signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGTERM, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
    logs.configure()

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        server = Server(create_app(settings, database_url), sock, settings.shutdown_timeout)
        await server.start()
        # Exclude the objects that exist until the process exits from every later collection.
        gc.collect()
        gc.freeze()
        # The parent watches a worker from its first heartbeat on. Send it after the start, which
        # may take long, but before the worker is ready: a worker that serves requests is watched.
        # The drain may take long as well, but the event loop runs during it and sends heartbeats.
        heartbeats.send(index)
        if ready is not None:
            os.write(ready, b".")
            os.close(ready)
        heartbeat_task = asyncio.create_task(_send_heartbeats(heartbeats, index))
        await stop.wait()
        await server.stop()
        heartbeat_task.cancel()

    uvloop.run(serve())
    return 0


async def _send_heartbeats(heartbeats: Heartbeats, index: int) -> None:
    while True:
        heartbeats.send(index)
        await asyncio.sleep(HEARTBEAT_INTERVAL)


def exit_with_parent(parent: int) -> None:
    """Ask the kernel to send SIGTERM to this worker when the parent process dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # The parent died before the call.
            os._exit(1)
