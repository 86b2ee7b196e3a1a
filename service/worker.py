"""Worker process: serve requests and send heartbeats to the parent from the event loop."""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import uvloop
from aiohttp import web

from service import logs
from service.heartbeats import HEARTBEAT_INTERVAL, Heartbeats
from service.http.server import Server

if TYPE_CHECKING:
    from service.metrics.metrics import Metrics


def run_worker(
    app: web.Application,
    shutdown_timeout: float,
    sockets: Sequence[socket.socket],
    ready: int | None,
    heartbeats: Heartbeats,
    index: int,
    metrics: "Metrics | None" = None,
) -> int:
    """Serve requests on ``sockets`` until SIGTERM or SIGUSR1; return the exit status.

    After SIGUSR1 another process serves the sockets. So the clients of idle connections have as
    much time for their next request, which is the last one.

    Requests get up to ``shutdown_timeout`` seconds to end. ``ready`` is the writing end of a pipe.
    When the worker accepts requests, it writes one byte to the pipe and closes it. ``metrics`` is
    ``None`` without ``METRICS_PORT``.
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
    if metrics is not None:
        metrics.use_row(index)

    async def serve() -> None:
        stop, retire = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_stop() -> None:
            retire.set()
            stop.set()

        loop.add_signal_handler(signal.SIGTERM, on_stop)
        loop.add_signal_handler(signal.SIGUSR1, retire.set)
        server = Server(app, sockets, shutdown_timeout)
        await server.start()
        if metrics is not None:
            await metrics.start(app, server.connections)
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
        await retire.wait()
        if metrics is not None:
            await metrics.stop()
        await server.stop(is_urgent=stop.is_set)
        heartbeat_task.cancel()

    uvloop.run(serve())
    return 0


async def _send_heartbeats(heartbeats: Heartbeats, index: int) -> None:
    while True:
        heartbeats.send(index)
        await asyncio.sleep(HEARTBEAT_INTERVAL)
