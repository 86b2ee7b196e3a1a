"""The metrics of the service, from its start to the end of the last worker.

The parent creates them before the application. Each worker that it forks has a copy of this object,
and counts in its own row of the memory that all of them share.
"""

import asyncio
import socket

from aiohttp import web

from service.app import ROUTES
from service.http.connections import Connections
from service.http.server import Server
from service.metrics import families
from service.metrics.endpoint import create_endpoint
from service.metrics.gauges import WorkerGauges
from service.metrics.measured_parts import MeasuredRequestLog, measured_parts
from service.metrics.shared_values import Route, SharedValues, WorkerValues


class Metrics:
    """The shared values, the parts of the application that count, and the port."""

    def __init__(self, workers: int, sock: socket.socket) -> None:
        """Allocate the values of ``workers`` workers. ``sock`` listens on the port."""
        self.shared = SharedValues(workers, routes())
        self._values = WorkerValues(self.shared)
        self._sock = sock
        self._endpoint: Server | None = None
        self._gauges: asyncio.Task[None] | None = None
        self.request_log = MeasuredRequestLog(self._values)
        self.parts = measured_parts(self._values)

    def note_exit(self, index: int) -> None:
        """Count the exit of the worker at ``index``, and remove its gauges. Call in the parent."""
        self.shared.clear_gauges(index)
        self.shared.increment(self.shared.workers, families.RESTARTS)

    def note_hang(self) -> None:
        """Count a worker that is killed because it hangs. Call in the parent."""
        self.shared.increment(self.shared.workers, families.HANGS)

    def use_row(self, index: int) -> None:
        """Count in the row of the worker at ``index``. Call first in a worker."""
        self._values.use_row(index)

    async def start(self, app: web.Application, connections: Connections) -> None:
        """Write the gauges of ``app``, which has started, and serve the metrics."""
        gauges = WorkerGauges(self._values, app, connections)
        self._gauges = asyncio.create_task(gauges.keep_writing())
        self._endpoint = create_endpoint(self.shared, app, self._sock)
        await self._endpoint.start()

    async def stop(self) -> None:
        """Stop serving the metrics in this worker. Other workers continue."""
        if self._endpoint is not None:
            await self._endpoint.stop()
        if self._gauges is not None:
            self._gauges.cancel()


def routes() -> list[Route]:
    """Return the method and the path template of each route of the service."""
    app = web.Application()
    for table in ROUTES:
        app.add_routes(table)
    return [
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    ]
