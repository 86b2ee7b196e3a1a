"""A proxy between the service and PostgreSQL, with which a test simulates network failures."""

import asyncio
import contextlib
from typing import Self

from psycopg.conninfo import conninfo_to_dict


class Network:
    """Forward bytes in both directions until ``hold``, which stops the delivery in both.

    ``url`` connects through the proxy to the server of ``server_url``.
    """

    def __init__(self, server_url: str) -> None:
        self._server = conninfo_to_dict(server_url)
        self._held: bytes | None = None
        self._freed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.connections = 0
        """The number of connections opened so far."""
        self.held = asyncio.Event()
        """Set when bytes have been held back."""

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._connect, "127.0.0.1")
        port = self._listening.sockets[0].getsockname()[1]
        server = self._server
        self.url = f"postgresql://{server['user']}@127.0.0.1:{port}/{server['dbname']}"
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self, of: bytes = b"") -> None:
        """Hold back every byte from now on, on connections whose first bytes contain ``of``."""
        self._held = of
        self._freed.clear()
        self.held = asyncio.Event()

    def free(self) -> None:
        """Forward again, and deliver the held bytes first."""
        self._held = None
        self._freed.set()

    def lose(self) -> None:
        """Forward again, but never deliver the held bytes: those connections stay silent."""
        self._held = None

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        host, port = str(self._server["host"]), int(self._server.get("port") or 5432)
        if host.startswith("/"):
            upstream = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            upstream = await asyncio.open_connection(host, port)
        first_bytes = bytearray()
        for source, target in ((reader, upstream[1]), (upstream[0], writer)):
            task = asyncio.create_task(self._forward(source, target, first_bytes))
            self._tasks.add(task)

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, first_bytes: bytearray
    ) -> None:
        with contextlib.closing(target), contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if len(first_bytes) < 1_000:
                    first_bytes += data
                if self._held is not None and self._held in first_bytes:
                    self.held.set()
                    await self._freed.wait()
                target.write(data)
                await target.drain()
