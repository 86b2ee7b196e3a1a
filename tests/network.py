"""A network between the service and PostgreSQL that a test may break."""

import asyncio
import contextlib
from typing import Self

from psycopg.conninfo import conninfo_to_dict


class Network:
    """Passes on what either side sends, until told to hold it: then nobody hears of the other.

    ``url`` leads through it to the server of the URL it was made with.
    """

    def __init__(self, server_url: str) -> None:
        self._server = conninfo_to_dict(server_url)
        self._held: bytes | None = None
        self._freed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.connections = 0
        """How many were opened so far."""
        self.held = asyncio.Event()
        """Set once something is held."""

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
        """Hold every byte from now on, of connections whose beginning contains ``of``."""
        self._held = of
        self._freed.clear()
        self.held = asyncio.Event()

    def free(self) -> None:
        """Pass on again, beginning with what was held."""
        self._held = None
        self._freed.set()

    def lose(self) -> None:
        """Pass on again, but never what was held: those connections stay silent for ever."""
        self._held = None

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        host, port = str(self._server["host"]), self._server.get("port", 5432)
        if host.startswith("/"):
            far = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            far = await asyncio.open_connection(host, int(port))
        beginning = bytearray()
        for source, target in ((reader, far[1]), (far[0], writer)):
            task = asyncio.create_task(self._pass_on(source, target, beginning))
            self._tasks.add(task)

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, beginning: bytearray
    ) -> None:
        with contextlib.closing(target), contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if len(beginning) < 1_000:
                    beginning += data
                if self._held is not None and self._held in beginning:
                    self.held.set()
                    await self._freed.wait()
                target.write(data)
                await target.drain()
