"""The HTTP server of a provider in the tests. Any of its responses can have a fault."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import ClientSession, hdrs, web
from yarl import URL

HUGE = 8 * 1024 * 1024
"""In bytes. No honest response of a provider comes near."""


@dataclass(frozen=True)
class Received:
    """A request that the provider received."""

    method: str
    path: str
    query: Mapping[str, str]
    form: Mapping[str, Any]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Exchange:
    """A request, the function that makes the correct response, and the end of the server."""

    request: web.BaseRequest
    respond: Callable[[], Awaitable[web.Response]]
    stopping: asyncio.Event


Fault = Callable[[Exchange], Awaitable[web.StreamResponse]]
Handler = Callable[[web.BaseRequest, dict[str, Any]], Awaitable[web.Response]]


def json_response(document: Any, status: int = 200) -> web.Response:
    # `json` writes infinity, NaN and lone surrogates. orjson refuses them.
    body = json.dumps(document).encode()
    return web.Response(body=body, status=status, content_type="application/json")


@dataclass
class ProviderServer:
    """Serve ``routes`` on a port of 127.0.0.1, inside ``async with``.

    ``requests`` has all requests. ``faults`` maps a path to the fault of its responses. Each fault
    wraps the correct response: a client that does not notice the fault signs in.
    """

    requests: list[Received] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    url: str = ""

    async def __aenter__(self) -> Self:
        self._stopping = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self._serve), shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop the server: from then on, connections to the provider are refused."""
        self._stopping.set()
        await self._runner.cleanup()

    def routes(self) -> dict[str, Handler]:
        """Return the handler of each path, such as ``POST /token``."""
        raise NotImplementedError

    def received(self, path: str) -> list[Received]:
        """Return the requests to ``path``."""
        return [request for request in self.requests if request.path == path]

    async def consent(self, authorization_url: str | URL) -> URL:
        """Open an authorization URL as the browser does. Return the URL of the callback."""
        url = URL(str(authorization_url), encoded=True)
        async with ClientSession() as browser, browser.get(url, allow_redirects=False) as response:
            assert response.status == 302, await response.text()
            return URL(response.headers[hdrs.LOCATION], encoded=True)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        form = dict(await request.post())
        self.requests.append(
            Received(request.method, request.path, request.query, form, request.headers)
        )
        handler = self.routes().get(f"{request.method} {request.path}")
        if handler is None:
            return web.Response(status=404)

        async def respond() -> web.Response:
            return await handler(request, form)

        fault = self.faults.get(request.path)
        if fault is None:
            return await respond()
        return await fault(Exchange(request, respond, self._stopping))


def body_of(response: web.Response) -> bytes:
    assert isinstance(response.body, bytes)
    return response.body


# The faults.


async def slow(exchange: Exchange) -> web.StreamResponse:
    """Send nothing, not even the headers."""
    await exchange.stopping.wait()
    return web.Response(status=503)


async def stalled(exchange: Exchange) -> web.StreamResponse:
    """Send the headers and half of the body, and then nothing."""
    response = await exchange.respond()
    stream = await _start_stream(exchange, response)
    body = body_of(response)
    await stream.write(body[: len(body) // 2])
    await exchange.stopping.wait()
    return stream


async def dripping(exchange: Exchange) -> web.StreamResponse:
    """Send a space each 50 ms, for ever: a limit on the time between two reads never ends it."""
    stream = await _start_stream(exchange, await exchange.respond())
    with suppress(ConnectionError):
        while not exchange.stopping.is_set():
            await stream.write(b" ")
            with suppress(TimeoutError):
                await asyncio.wait_for(exchange.stopping.wait(), 0.05)
    return stream


async def dropped(exchange: Exchange) -> web.StreamResponse:
    """Close the connection without a response."""
    assert exchange.request.transport is not None
    exchange.request.transport.abort()
    return web.Response()


async def truncated(exchange: Exchange) -> web.StreamResponse:
    """Send half of the body and close the connection."""
    response = await exchange.respond()
    body = body_of(response)
    response.headers[hdrs.CONTENT_LENGTH] = str(len(body))
    stream = web.StreamResponse(headers=response.headers)
    await stream.prepare(exchange.request)
    await stream.write(body[: len(body) // 2])
    assert exchange.request.transport is not None
    exchange.request.transport.close()
    return stream


async def huge(exchange: Exchange) -> web.StreamResponse:
    """Send 8 MiB of spaces before the correct body, with a ``Content-Length``."""
    response = await exchange.respond()
    response.body = b" " * HUGE + body_of(response)
    return response


async def huge_chunked(exchange: Exchange) -> web.StreamResponse:
    """Send 8 MiB of spaces before the correct body, in chunks, without a ``Content-Length``."""
    response = await exchange.respond()
    stream = await _start_stream(exchange, response)
    with suppress(ConnectionError):
        for _ in range(HUGE // 65536):
            await stream.write(b" " * 65536)
        await stream.write(body_of(response))
    return stream


async def compressed(exchange: Exchange) -> web.StreamResponse:
    """Send the correct body with gzip, although the client may not accept it."""
    response = await exchange.respond()
    response.body = gzip.compress(body_of(response))
    response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    return response


async def compressed_huge(exchange: Exchange) -> web.StreamResponse:
    """Send 8 kB of gzip that decompress to 8 MiB of spaces and the correct body."""
    response = await exchange.respond()
    response.body = gzip.compress(b" " * HUGE + body_of(response))
    response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    return response


async def redirected(exchange: Exchange) -> web.StreamResponse:
    """Redirect to another URL of this server, which has the correct response."""
    if "redirected" in exchange.request.query:
        return await exchange.respond()
    location = f"{exchange.request.path}?redirected=1"
    return web.Response(status=307, headers={hdrs.LOCATION: location})


async def in_array(exchange: Exchange) -> web.StreamResponse:
    """Send a JSON array with the correct document as its only element."""
    response = await exchange.respond()
    response.body = b"[" + body_of(response) + b"]"
    return response


def with_status(status: int) -> Fault:
    """Send the correct body with another status."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        response = await exchange.respond()
        response.set_status(status)
        return response

    return fault


def with_content_type(value: str) -> Fault:
    """Send the correct body with another ``Content-Type``."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        response = await exchange.respond()
        response.headers[hdrs.CONTENT_TYPE] = value
        return response

    return fault


def with_body(body: bytes) -> Fault:
    """Send this body with the headers of the correct response."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        response = await exchange.respond()
        response.body = body
        return response

    return fault


async def _start_stream(exchange: Exchange, response: web.Response) -> web.StreamResponse:
    stream = web.StreamResponse(headers={hdrs.CONTENT_TYPE: response.content_type})
    await stream.prepare(exchange.request)
    return stream
