"""Responses that are streamed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientPayloadError, web

from service.http import streamed_json
from service.http.routes import Auth, RouteTableDef
from service.http.streamed_json import StreamedJson


async def numbers(count: int, fail: bool = False) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b"x" * 100_000 if count > 10 else str(number).encode()
    if fail:
        raise ValueError("a fault of the service")


def routes_of(count: int, *, fail: bool = False) -> RouteTableDef:
    routes = RouteTableDef()

    @routes.get("/stream", auth=Auth.NONE)
    async def stream(_: web.Request) -> web.StreamResponse:
        return StreamedJson(numbers(count, fail), {"X-Own": "1"})

    return routes


async def test_body_is_written_with_the_headers_of_the_middlewares(extend: Any) -> None:
    client = await extend(routes_of(5))
    async with client.http.get("/stream") as response:
        assert await response.read() == b"01234"
        assert response.headers["X-Own"] == "1"
        assert response.headers["X-Request-ID"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_error_breaks_the_connection_off(
    extend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await extend(routes_of(3, fail=True))
    async with client.http.get("/stream") as response:
        with pytest.raises(ClientPayloadError):
            await response.read()
    assert "response broken off by an error" in caplog.text


async def test_client_that_stops_reading_is_disconnected(
    extend: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streamed_json, "WRITE_TIMEOUT", 0.05)
    client = await extend(routes_of(1000))
    reader, writer = await asyncio.open_connection(client.http.host, client.http.port, limit=1)
    writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(20):
        while "response broken off: error=TimeoutError" not in caplog.text:
            await asyncio.sleep(0)
    writer.close()
    assert reader is not None
