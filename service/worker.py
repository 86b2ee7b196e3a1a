"""A worker process: serves requests, and shows its parent that its event loop still runs."""

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

HEARTBEAT_INTERVAL = 1.0  # Seconds between two heartbeats, and between two looks of the parent.
SILENT_LOOKS = 20  # Looks in succession without a heartbeat that make a worker a hanging one.
PR_SET_PDEATHSIG = 1


class Heartbeats:
    """Tells the parent which workers hang, by one byte of shared memory for each.

    A worker sets its byte, the parent reads and clears it. Silence is counted in looks of the
    parent, not in seconds: the parent does not look while it is stopped or the machine is
    suspended, so that this time never counts against a worker.
    """

    def __init__(self, count: int) -> None:
        """Make room for ``count`` workers, before they are forked."""
        self._beats = mmap.mmap(-1, count)
        self._silent_looks: list[int | None] = [None] * count  # None: not watched yet.

    def send(self, index: int) -> None:
        """Send a heartbeat of the worker at ``index``."""
        self._beats[index] = 1

    def reset(self, index: int) -> None:
        """Forget the worker at ``index``. The next one is watched from its first heartbeat on."""
        self._beats[index] = 0
        self._silent_looks[index] = None

    def look(self) -> list[int]:
        """Return the indexes of the workers that have just become silent for too long."""
        hanging = []
        for index, silent in enumerate(self._silent_looks):
            if self._beats[index]:
                self._beats[index] = 0
                self._silent_looks[index] = 0
            elif silent is not None:
                self._silent_looks[index] = silent + 1
                if silent + 1 == SILENT_LOOKS:
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

    ``ready`` is the descriptor of a pipe that is told once when requests are served.
    """
    # The terminal sends Ctrl-C to everyone; the parent passes it on, so it counts once.
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
        # What lives as long as the process is kept out of every later collection.
        gc.collect()
        gc.freeze()
        if ready is not None:
            os.write(ready, b".")
            os.close(ready)
        # The start may take its time, so the first heartbeat is sent after it. The drain may, too,
        # but the event loop runs meanwhile.
        beating = asyncio.create_task(_send_heartbeats(heartbeats, index))
        await stop.wait()
        await server.stop()
        beating.cancel()

    uvloop.run(serve())
    return 0


async def _send_heartbeats(heartbeats: Heartbeats, index: int) -> None:
    while True:
        heartbeats.send(index)
        await asyncio.sleep(HEARTBEAT_INTERVAL)


def exit_with_parent(parent: int) -> None:
    """Have the kernel end this worker when its parent is killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # It died before we asked.
            os._exit(1)
