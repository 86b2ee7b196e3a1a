"""Fixtures: the service with additional routes, and the service behind its own HTTP server."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from aiohttp import web

from service.app import create_app
from service.http.request_log import RequestLog
from service.http.server import Server
from service.settings.settings import Settings
from tests.conftest import SETTINGS, Client, Response

Extend = Callable[..., Awaitable[Client]]


@pytest.fixture
def extend(
    aiohttp_client: Any, database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> Extend:
    """Return a function that starts the service with additional routes and returns a client."""

    async def make(
        routes: web.RouteTableDef, log: io.StringIO | None = None, **changes: Any
    ) -> Client:
        settings = Settings(**{**SETTINGS, "data_dir": tmp_path, **changes})
        log = log if log is not None else io.StringIO()
        app = create_app(settings, database_url, RequestLog(log))
        app.add_routes(routes)
        return Client(await aiohttp_client(app), settings, log)

    return make


@dataclass
class RawConnection:
    """Send raw bytes to the service on a port of 127.0.0.1, and read its raw responses."""

    port: int
    log: io.StringIO
    server: Server

    async def send(self, *parts: bytes) -> Response:
        """Write ``parts``, read until the server closes the connection, and parse one response."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for part in parts:
            writer.write(part)
        await writer.drain()
        raw = await reader.read()
        writer.close()
        await writer.wait_closed()
        return response_of(raw)


def response_of(raw: bytes) -> Response:
    """Parse the bytes of one response. The headers become a plain dictionary.

    A body that is not JSON becomes a text.
    """
    head, _, body = raw.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(headers.get("Content-Length", 0)) == len(body)
    is_text = headers.get("Content-Type", "").startswith("text/")
    parsed = body.decode() if is_text else orjson.loads(body) if body else None
    return Response(int(status_line.split()[1]), parsed, headers)


Serve = Callable[..., Awaitable[RawConnection]]


@pytest.fixture
async def serve(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[Serve]:
    """Yield a function that starts the service with additional routes behind its own server.

    Each server gets a free port, and is stopped after the test.
    """
    servers = []

    async def start(
        routes: web.RouteTableDef, url: str = database_url, **changes: Any
    ) -> RawConnection:
        settings = Settings(**{**SETTINGS, "data_dir": tmp_path, **changes})
        log = io.StringIO()
        app = create_app(settings, url, RequestLog(log))
        app.add_routes(routes)
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        servers.append(Server(app, [listening], 1.0))
        await servers[-1].start()
        return RawConnection(port, log, servers[-1])

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
async def wire(serve: Serve) -> RawConnection:
    """Return a raw connection to the service behind its own server."""
    return await serve(web.RouteTableDef())
