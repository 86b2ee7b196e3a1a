"""A collector that keeps what it receives."""

import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer


class Collector:
    """Receive reports and traces over HTTP."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        """The path and the decompressed body of each request."""
        app = web.Application()
        app.router.add_post("/{path:.*}", self._receive)
        self.server = TestServer(app)

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        # aiohttp has decompressed the body if the header names the compression.
        self.received.append(
            (request.path, gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        )
        return web.Response()

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        assert self.server.port is not None
        return self.server.port


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """Run a collector."""
    collector = Collector()
    async with collector.server:
        yield collector
