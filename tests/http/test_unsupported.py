"""Test encoded bodies, other versions of HTTP, and chunks in HTTP/1.0."""

import asyncio
import gzip
import zlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from aiohttp import hdrs, http_parser
from aiohttp.compression_utils import ZLibDecompressor

from service.app import create_app
from service.settings.settings import Settings
from tests.conftest import SETTINGS, Client
from tests.http.conftest import RawConnection, response_of
from tests.responses import assert_error, assert_invalid

MEGABYTE = 1024 * 1024
NOT_SUPPORTED = {"body": ["must be sent without a Content-Encoding"]}
PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


def request_of(
    method: str, path: str, *encodings: str, body: bytes = b"\x1f\x8b", headers: str = ""
) -> bytes:
    """Return a request with one ``Content-Encoding`` header for each of ``encodings``."""
    encoded = "".join(f"Content-Encoding: {encoding}\r\n" for encoding in encodings)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{encoded}{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


ENCODED = [
    ["gzip"],
    ["GZip"],
    ["x-gzip"],
    ["deflate"],
    ["br"],
    ["zstd"],
    ["compress"],
    ["nonsense"],
    ["gzip, identity"],
    ["identity,gzip"],
    ["gzip,"],
    ["gzip;q=1"],
    ["identity gzip"],
    ["gzip", "identity"],
    ["identity", "gzip"],
    ["", "gzip"],
    ["gzip", "gzip"],
    ["gz\u0130p"],
]


@pytest.mark.parametrize("encodings", ENCODED, ids=ascii)
@pytest.mark.parametrize("path", ["/api/users", "/nowhere"])
async def test_encoded_body_is_rejected_with_415_and_closes_the_connection(
    wire: RawConnection, path: str, encodings: list[str]
) -> None:
    async with asyncio.timeout(20):
        response = await wire.send(request_of("POST", path, *encodings))
    assert_error(response, 415, "content_encoding_not_supported", NOT_SUPPORTED)
    assert response.headers["Accept-Encoding"] == "identity"
    assert response.headers["Connection"] == "close"
    line = orjson.loads(wire.log.getvalue())
    assert (line["status"], line["level"]) == (415, "info")


IDENTITY = [
    ["identity"],
    ["Identity"],
    [""],
    ["identity, identity"],
    [", identity,"],
    ["", ""],
]


@pytest.mark.parametrize("encodings", IDENTITY, ids=ascii)
async def test_identity_encoding_is_accepted(wire: RawConnection, encodings: list[str]) -> None:
    closing = "Connection: close\r\n"
    sent = request_of("POST", "/api/users/login", *encodings, body=b"{}", headers=closing)
    assert_invalid(await wire.send(sent), 400, user="can't be blank")


def every_route() -> list[tuple[str, str]]:
    """Return method and path of every route, and of two requests that match no route."""
    app = create_app(Settings(**SETTINGS), "postgresql:///")
    routes = [
        (route.method, route.resource.canonical.replace("{", "").replace("}", ""))
        for route in app.router.routes()
        if route.resource is not None and route.method != hdrs.METH_HEAD
    ]
    return [*routes, ("POST", "/nowhere"), ("PATCH", "/api/user")]


async def test_encoded_body_is_rejected_on_every_route(wire: RawConnection) -> None:
    for method, path in every_route():
        for headers in ("", "Authorization: Token nonsense\r\n"):
            async with asyncio.timeout(20):
                response = await wire.send(request_of(method, path, "gzip", headers=headers))
            assert response.status == 415, (method, path)


async def test_encoded_body_is_rejected_in_each_dialect(dialect_client: Client) -> None:
    """The client also compares the responses with the OpenAPI document."""
    for method, path in (("POST", "/api/users"), ("PUT", "/api/user"), ("POST", "/nowhere")):
        packed = gzip.compress(b"{}")
        response = await dialect_client.send(
            method, path, data=packed, headers={"Content-Encoding": "gzip"}
        )
        assert_error(response, 415, "content_encoding_not_supported", NOT_SUPPORTED)


@pytest.mark.parametrize("encoding", PACKERS)
async def test_compressed_body_is_not_decompressed(
    wire: RawConnection, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    made = []

    class Decompressor(ZLibDecompressor):
        def __init__(self, **options: Any) -> None:
            made.append(options)
            super().__init__(**options)

    monkeypatch.setattr(http_parser, "ZLibDecompressor", Decompressor)
    bomb = PACKERS[encoding](b" " * (100 * MEGABYTE))
    assert len(bomb) < MEGABYTE / 5
    for path in ("/api/users", "/nowhere"):
        response = await wire.send(request_of("POST", path, encoding, body=bomb))
        assert response.status == 415
    assert made == []


async def test_encoded_body_is_rejected_before_it_arrives(wire: RawConnection) -> None:
    head = b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(head + b"Content-Length: 1000000000\r\n\r\n\x1f\x8b")
    async with asyncio.timeout(20):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 415 ")
    writer.close()


async def test_request_after_an_encoded_body_gets_no_response(wire: RawConnection) -> None:
    hidden = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    async with asyncio.timeout(20):
        # ``response_of`` asserts that nothing follows the response.
        response = await wire.send(request_of("POST", "/api/users", "gzip"), hidden)
    assert response.status == 415


@pytest.mark.parametrize("version", ["0.9", "2.0"])
@pytest.mark.parametrize("path", ["/health", "/nowhere", "/api/user"])
async def test_other_http_version_is_rejected_with_505_and_closes_the_connection(
    wire: RawConnection, path: str, version: str
) -> None:
    one = f"GET {path} HTTP/{version}\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(one.encode())
    async with asyncio.timeout(20):
        raw = await reader.read()
    writer.close()
    assert raw.startswith(b"HTTP/1.1 505 ")
    response = response_of(raw)
    errors = {"request": ["must be HTTP/1.0 or HTTP/1.1"]}
    assert_error(response, 505, "http_version_not_supported", errors)
    assert response.headers["Connection"] == "close"
    line = orjson.loads(wire.log.getvalue())
    assert (line["status"], line["level"]) == (505, "info")


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


@pytest.mark.parametrize("path", ["/api/users", "/nowhere"])
async def test_chunks_in_http_1_0_close_the_connection(wire: RawConnection, path: str) -> None:
    head = f"POST {path} HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(head.encode() + CHUNKED + b"GET /health HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(20):
        response = response_of(await reader.read())
    assert response.status in (400, 404)
    assert "Connection" not in response.headers
    writer.close()
