"""Test JSON responses and pages of items."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import asyncpg
import orjson
import pytest
from aiohttp import web

from service.http import responses
from service.http.responses import JSON, json_response, render_page, timestamp, timestamp_of
from service.http.routes import Auth, RouteTableDef
from tests.http.conftest import Serve

DATA = {"name": "Zoë", "list": [1, None]}
BODY = '{"name":"Zoë","list":[1,null]}'.encode()
HEADERS = {"Retry-After": "2", "Allow": "GET"}

routes = RouteTableDef()


@routes.get("/ours", auth=Auth.NONE)
async def ours(request: web.Request) -> web.StreamResponse:
    return json_response(DATA, status=203, headers=HEADERS)


@routes.get("/aiohttps", auth=Auth.NONE)
async def aiohttps(request: web.Request) -> web.StreamResponse:
    return web.Response(body=BODY, status=203, headers={**HEADERS, "Content-Type": JSON})


@routes.get("/last", auth=Auth.NONE)
async def last(request: web.Request) -> web.StreamResponse:
    response = json_response(DATA)
    response.force_close()
    return response


@routes.get("/revalidated", auth=Auth.NONE)
async def revalidated(request: web.Request) -> web.StreamResponse:
    return json_response(DATA, headers={"Cache-Control": "no-cache"})


@routes.get("/injected/{value}", auth=Auth.NONE)
async def injected(request: web.Request) -> web.StreamResponse:
    return json_response(DATA, headers={"X-Value": request.match_info["value"]})


@routes.get("/large", auth=Auth.NONE)
async def large(request: web.Request) -> web.StreamResponse:
    return json_response("x" * 20_000_000)


def test_page_ends_when_its_bytes_are_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_PAGE_BYTES", 12)
    assert orjson.dumps(render_page(iter("abcd"))) == b'["a","b","c"]'
    assert orjson.dumps(render_page(["\x01", "b"])) == b'["\\u0001"]'
    assert orjson.dumps(render_page(["longer than that", "b"])) == b'["longer than that"]'
    assert render_page([]) == []


def test_page_renders_no_item_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_PAGE_BYTES", 12)
    rest = iter("abcdefgh")
    render_page(rest)
    assert list(rest) == ["e", "f", "g", "h"]


async def exchange(port: int, sent: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Send ``sent``, half-close, and return the status line, the headers and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    writer.write_eof()
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status_line, *lines = head.split(b"\r\n")
    headers = dict(line.decode().split(": ", 1) for line in lines)
    headers.pop("Server", None)
    assert abs(parsedate_to_datetime(headers.pop("Date")).timestamp() - time.time()) < 60
    return status_line, headers, body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("connection", ["", "Connection: close\r\n", "Connection: keep-alive\r\n"])
async def test_json_response_equals_the_response_of_aiohttp(
    serve: Serve, method: str, version: str, connection: str
) -> None:
    wire = await serve(routes)
    rest = f"HTTP/{version}\r\nHost: x\r\nX-Request-ID: a\r\n{connection}\r\n"
    responses = [
        await exchange(wire.port, f"{method} {path} {rest}".encode())
        for path in ("/ours", "/aiohttps")
    ]
    assert responses[0] == responses[1]
    assert responses[0][2] == (BODY if method == "GET" else b"")
    assert responses[0][1]["Content-Length"] == str(len(BODY))


@pytest.mark.parametrize("value", [b"%0d%0aSet-Cookie:%20a=b", b"%0aX:%20y", b"a%00b"])
async def test_header_with_a_control_character_is_never_sent(serve: Serve, value: bytes) -> None:
    """Otherwise a value that a client chooses could add a header, or a whole response."""
    wire = await serve(routes)
    sent = b"GET /injected/" + value + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(sent)
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert b"Set-Cookie" not in received and b"X: y" not in received and b"\0" not in received


@pytest.mark.parametrize(
    ("line", "cached"), [(b"", b"no-cache"), (b"Authorization: Token a\r\n", b"no-store")]
)
async def test_response_to_an_authenticated_request_is_never_stored(
    serve: Serve, line: bytes, cached: bytes
) -> None:
    wire = await serve(routes)
    sent = b"GET /revalidated HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n" % line
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(sent)
    received = await reader.read()
    writer.close()
    assert received.count(b"Cache-Control: ") == 1
    assert b"\r\nCache-Control: %b\r\n" % cached in received


async def test_connection_closes_when_the_response_says_so(serve: Serve) -> None:
    wire = await serve(routes)
    one = b"GET /ours HTTP/1.%d\r\nHost: x\r\n%b\r\n"
    stays = [one % (1, b""), one % (0, b"Connection: keep-alive\r\n")]
    closes = [one % (1, b"Connection: close\r\n"), one % (0, b"")]
    for sent, count in [(stay + closes[0], 2) for stay in stays] + [(close, 1) for close in closes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(sent)
        assert (await reader.read()).count(BODY) == count
        writer.close()


async def test_force_close_ends_the_connection_after_the_response(serve: Serve) -> None:
    wire = await serve(routes)
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in await asyncio.wait_for(reader.read(), 20)
    writer.close()


async def test_large_response_arrives_completely(serve: Serve) -> None:
    wire = await serve(routes)
    response = await exchange(wire.port, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    assert len(response[2]) == 20_000_002


async def test_time_in_microseconds_is_formatted_as_the_time_of_the_database(
    db: asyncpg.Connection,
) -> None:
    # Whole milliseconds and their neighbours, now and at the end of the range that is exact.
    times = [
        datetime(year, 2, 28, 23, 59, 59, milliseconds * 1000, tzinfo=UTC)
        + timedelta(microseconds=n)
        for year in (1969, 1970, 2026, 2105)
        for milliseconds in (0, 1, 122, 123, 577, 999)
        for n in (-1, 0, 1)
    ]
    found = await db.fetch("select unix_microseconds(unnest($1::timestamptz[])) as moment", times)
    assert [timestamp_of(row["moment"]) for row in found] == [timestamp(time) for time in times]
