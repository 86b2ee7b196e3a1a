"""Test that responses written in a batch are neither lost nor late."""

import asyncio
from typing import Any, cast

import pytest
from aiohttp import web

from service.http.connections import BoundedConnection, Connections
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from tests.http.conftest import Serve


@pytest.mark.parametrize("end", ["half-close", "close", "force_close"])
async def test_batched_response_is_sent_when_the_connection_closes_before_the_batch(
    serve: Serve, end: str
) -> None:
    routes = RouteTableDef()

    @routes.get("/last", auth=Auth.NONE)
    async def last(request: web.Request) -> web.StreamResponse:
        connection = cast(BoundedConnection, request.protocol)

        def close() -> None:
            if end == "close":
                connection.close()
            elif end == "force_close":
                connection.force_close()
            elif not connection.eof_received():
                assert request.transport is not None
                request.transport.close()

        # Before the batch, which is written by a later callback.
        asyncio.get_running_loop().call_soon(close)
        return json_response("last")

    wire = await serve(routes)
    assert (await wire.send(b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n")).body == "last"


async def test_batched_response_is_sent_before_the_response_to_the_next_request(
    serve: Serve,
) -> None:
    routes, sent = RouteTableDef(), b"GET /numbers HTTP/1.1\r\nHost: x\r\n%b\r\n"
    rest = [sent % b"Connection: close\r\n", sent % b""]

    @routes.get("/numbers", auth=Auth.NONE)
    async def numbers(request: web.Request) -> web.StreamResponse:
        connection = cast(BoundedConnection, request.protocol)
        if rest:
            # Before the batch, which is written by a later callback.
            asyncio.get_running_loop().call_soon(connection.data_received, rest.pop())
        return json_response(len(rest))

    wire = await serve(routes)
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(sent % b"")
    responses = (await reader.read()).split(b"HTTP/1.1 200 OK\r\n")
    writer.close()
    assert [response.partition(b"\r\n\r\n")[2] for response in responses] == [b"", b"1", b"0", b"0"]


async def test_full_batch_is_written_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flushed:
        def flush(self) -> None:
            written.append(self)

    monkeypatch.setattr("service.http.connections.MAX_BATCH", 3)
    written: list[Flushed] = []
    connections, batch = Connections(10), [Flushed() for _ in range(4)]
    for connection in batch:
        connections.flush_later(cast(Any, connection))
    assert written == batch[:3]
    await asyncio.sleep(0)
    assert written == batch
