"""Test the HTTP server with raw bytes: requests that reach no middleware, and half-closing."""

import asyncio
import json
import logging
import socket
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from tests import processes
from tests.http.conftest import RawConnection, Serve, response_of
from tests.responses import assert_error

BAD_HTTP = {
    "no HTTP": b"hello\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
    "another protocol": b"GET / SPDY/3\r\n\r\n",
    "an unknown method": b"BREW /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header without a colon": b"GET /health HTTP/1.1\r\nHost\r\n\r\n",
    "a space before a colon": b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
    "a NUL in a header": b"GET /health HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
    "a NUL in the path": b"GET /hea\x00lth HTTP/1.1\r\nHost: a\r\n\r\n",
    "a length that is no number": b"POST /api/users HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    "a negative length": b"POST /api/users HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST /api/users HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a length and chunks": (
        b"POST /api/users HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("raw", BAD_HTTP.values(), ids=BAD_HTTP)
async def test_invalid_http_is_rejected_with_the_common_error_shape(
    wire: RawConnection, raw: bytes
) -> None:
    response = await wire.send(raw)
    assert_error(response, 400, "bad_request", {"request": ["is not valid HTTP"]})
    line = orjson.loads(wire.log.getvalue())
    assert (line["status"], line["route"], line["user_id"]) == (400, None, None)
    assert line["request_id"] == response.headers["X-Request-ID"]


TOO_LONG = {
    "a path": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a query": b"GET /health?" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header's value": b"GET /health HTTP/1.1\r\nHost: " + b"a" * 20_000 + b"\r\n\r\n",
    "a header's name": b"GET /health HTTP/1.1\r\n" + b"a" * 20_000 + b": x\r\n\r\n",
    "a token": b"GET /api/user HTTP/1.1\r\nAuthorization: Token " + b"a" * 9_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("raw", TOO_LONG.values(), ids=TOO_LONG)
async def test_line_that_is_too_long_is_rejected_with_the_common_error_shape(
    wire: RawConnection, raw: bytes
) -> None:
    response = await wire.send(raw)
    too_long = {"request": ["has a line or a header that is too long"]}
    assert_error(response, 400, "bad_request", too_long)


async def test_invalid_http_is_not_logged_as_an_error(
    wire: RawConnection, caplog: pytest.LogCaptureFixture
) -> None:
    for raw in (*BAD_HTTP.values(), *TOO_LONG.values()):
        await wire.send(raw)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    response = await wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert response.status == 200


@pytest.mark.parametrize("path", ["/api/users", "/health", "/nowhere"])
async def test_expectation_other_than_100_continue_is_rejected(
    wire: RawConnection, path: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: foo\r\nConnection: close\r\n"
    response = await wire.send(head.encode() + b"Content-Length: 0\r\n\r\n")
    assert_error(response, 417, "expectation_failed", {"expect": ["is not supported"]})
    assert orjson.loads(wire.log.getvalue())["status"] == 417


async def test_100_continue_is_sent_before_the_body(wire: RawConnection) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    head = b"POST /api/users HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
    writer.write(head + b"Content-Length: 2\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    response = response_of(await reader.read())
    assert_error(response, 400, "invalid_input", {"user": ["can't be blank"]})
    writer.close()


async def test_internal_error_outside_the_middlewares_has_the_common_error_shape(
    wire: RawConnection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the inside of the service")

    monkeypatch.setattr("service.http.request_log.route_of", fail)
    response = await wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert_error(response, 500, "internal_error", {"server": ["internal error"]})
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in errors] == ["unhandled error"]


async def test_pipelined_requests_get_their_responses_in_order(wire: RawConnection) -> None:
    one = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nX-Request-ID: %b\r\n%b\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(one % (b"first", b"") + one % (b"second", b"Connection: close\r\n"))
    raw = await reader.read()
    assert raw.count(b"HTTP/1.1 404 Not Found") == 2
    assert raw.index(b"first") < raw.index(b"second")
    writer.close()


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


ONE = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
UPLOAD = b"POST /length HTTP/1.1\r\nHost: x\r\n"


def held_routes() -> web.RouteTableDef:
    """Return routes where ``/held`` responds after a request to ``/release``."""
    routes, released = RouteTableDef(), asyncio.Event()

    @routes.get("/held", auth=Auth.NONE)
    async def held(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return json_response("held")

    @routes.get("/release", auth=Auth.NONE)
    async def release(request: web.Request) -> web.StreamResponse:
        released.set()
        return json_response("released")

    @routes.get("/quick", auth=Auth.NONE)
    async def quick(request: web.Request) -> web.StreamResponse:
        return json_response("quick")

    @routes.get("/large", auth=Auth.NONE)
    async def large(request: web.Request) -> web.StreamResponse:
        return json_response("x" * 20_000_000)

    @routes.post("/length", auth=Auth.NONE)
    async def length(request: web.Request) -> web.StreamResponse:
        return json_response(len(await request.read()))

    return routes


async def open_idle(wire: RawConnection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection that has had a response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(ONE % b"quick")
    head = await reader.readuntil(b'"quick"')
    assert b"Connection: close" not in head
    return reader, writer


async def start_to_stop(wire: RawConnection) -> asyncio.Task[None]:
    """Stop the server when another process serves the port, and return when it is draining."""
    task = asyncio.create_task(wire.server.stop(is_urgent=lambda: False))
    while not wire.server.connections.is_draining:
        await asyncio.sleep(0)
    return task


async def test_idle_connection_gets_one_more_response_when_the_server_drains(
    serve: Serve,
) -> None:
    wire = await serve(held_routes())
    reader, writer = await open_idle(wire)
    stopping = await start_to_stop(wire)
    writer.write(ONE % b"quick")
    response = response_of(await reader.read())
    assert response.body == "quick" and response.headers["Connection"] == "close"
    writer.close()
    await stopping


async def test_pipelined_requests_get_their_responses_when_the_server_drains(serve: Serve) -> None:
    wire = await serve(held_routes())
    reader, writer = await open_idle(wire)
    stopping = await start_to_stop(wire)
    writer.write(ONE % b"quick" * 3)
    raw = await reader.read()
    assert raw.count(b'"quick"') == 3 and raw.count(b"Connection: close") == 1
    writer.close()
    await stopping


async def test_response_says_that_the_connection_closes_when_the_server_drains(
    serve: Serve,
) -> None:
    wire = await serve(held_routes())
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    other_reader, other = await open_idle(wire)
    writer.write(ONE % b"held")
    await asyncio.sleep(0)
    other.write(ONE % b"quick")  # When it has its response, the held request has been read.
    await other_reader.readuntil(b'"quick"')
    stopping = await start_to_stop(wire)
    other.write(ONE % b"release")
    assert response_of(await reader.read()).headers["Connection"] == "close"
    assert response_of(await other_reader.read()).headers["Connection"] == "close"
    for each in (writer, other):
        each.close()
    await stopping


async def test_request_that_exceeds_the_shutdown_timeout_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await serve(held_routes())
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    idle_reader, idle = await open_idle(wire)
    writer.write(ONE % b"held")
    await asyncio.sleep(0)
    idle.write(ONE % b"quick")
    await idle_reader.readuntil(b'"quick"')
    await wire.server.stop(is_urgent=lambda: False)
    assert await reader.read() == await idle_reader.read() == b""
    assert "requests aborted, they exceeded SHUTDOWN_TIMEOUT: count=1" in caplog.text
    line = json.loads(wire.log.getvalue().splitlines()[-1])
    assert (line["route"], line["status"]) == ("/held", 499)
    for each in (writer, idle):
        each.close()


HALF_CLOSED = {
    "a quick request": (ONE % b"quick", [b'"quick"']),
    "a slow request": (ONE % b"held", [b'"held"']),
    "pipelined quick requests": (ONE % b"quick" * 5, [b'"quick"'] * 5),
    "pipelined slow requests": (ONE % b"held" * 5, [b'"held"'] * 5),
    "an upload": (UPLOAD + b"Content-Length: 3\r\n\r\nabc", [b"3"]),
    "an upload in chunks": (UPLOAD + CHUNKED, [b"2"]),
    "a slow request before half a head": (ONE % b"held" + b"GET /quick HT", [b'"held"']),
    "half a head": (b"GET /quick HT", []),
    "nothing": (b"", []),
}


RELEASE = b"GET /release HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(("sent", "bodies"), HALF_CLOSED.values(), ids=HALF_CLOSED)
async def test_half_closed_connection_gets_its_responses_and_is_closed(
    serve: Serve, sent: bytes, bodies: list[bytes]
) -> None:
    wire = await serve(held_routes())
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(sent)
    writer.write_eof()
    # The server reads the end of the first connection before it reads a request of a later one.
    assert (await wire.send(RELEASE)).body == "released"
    async with asyncio.timeout(20):
        raw = await reader.read()
    writer.close()
    responses = raw.split(b"HTTP/1.1 200 OK\r\n")
    assert responses[0] == b""
    assert [response.partition(b"\r\n\r\n")[2] for response in responses[1:]] == bodies


async def test_connection_is_closed_after_the_response_when_it_was_half_closed_during_it(
    serve: Serve,
) -> None:
    wire = await serve(held_routes())
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(ONE % b"large")
    await reader.readuntil(b"\r\n\r\n")
    writer.write_eof()
    await wire.send(RELEASE)
    async with asyncio.timeout(20):
        assert len(await reader.read()) == 20_000_002
    writer.close()


async def test_half_closed_connection_gets_the_error_when_it_sent_invalid_http(
    wire: RawConnection,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(b"hello\r\n\r\n")
    writer.write_eof()
    response = response_of(await reader.read())
    assert_error(response, 400, "bad_request", {"request": ["is not valid HTTP"]})
    writer.close()


def test_half_closed_connection_gets_its_response_on_uvloop(
    tmp_path: Path, database_url: str
) -> None:
    """The service runs on uvloop. All other tests here run on asyncio's event loop."""
    with processes.serve(tmp_path, DATABASE_URL=database_url) as service:
        address = ("127.0.0.1", service.wait_until_serving().port)
        with socket.create_connection(address, processes.MAX_WAIT) as connection:
            connection.sendall(ONE % b"health")  # Its handler waits for the database.
            connection.shutdown(socket.SHUT_WR)
            raw = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert response_of(raw).body == {"status": "ok", "database": "connected"}
