"""Test the requests of the checks, and the reasons why one gets no response."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import web

from service.doctor import http
from service.doctor.http import NoAnswer, get
from tests.processes import free_port


@asynccontextmanager
async def serve(
    handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Serve ``handle``, and yield the URL."""
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def failure(url: str) -> str:
    """Return why a request to ``url`` gets no response."""
    with pytest.raises(NoAnswer) as raised:
        await get(url)
    return str(raised.value)


async def test_response_has_its_status_and_its_json() -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        return web.json_response({"given": request.headers["X-Given"]}, status=503)

    async with serve(handle) as url:
        response = await get(url, {"X-Given": "a"})
    assert (response.status, response.json) == (503, {"given": "a"})


async def test_redirect_is_not_followed_and_a_page_is_no_json() -> None:
    async def handle(_: web.BaseRequest) -> web.Response:
        return web.Response(status=301, text="<p>moved", headers={"Location": "/elsewhere"})

    async with serve(handle) as url:
        response = await get(url)
    assert (response.status, response.json) == (301, None)


async def test_refused_connection_and_unknown_host_are_named() -> None:
    assert "refused" in await failure(f"http://127.0.0.1:{free_port()}")
    assert "host is unknown" in await failure("http://nohost.invalid")


async def test_certificate_that_is_not_valid_is_named() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def handle(_: web.BaseRequest) -> web.Response:
        return web.Response()

    async with serve(handle, context) as url:
        assert "certificate is not valid" in await failure(url)
    async with serve(handle) as url:
        assert await failure(url.replace("http:", "https:")) == "TLS fails"


async def test_slow_response_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT", 0.05)
    stopping = asyncio.Event()

    async def handle(_: web.BaseRequest) -> web.Response:
        await stopping.wait()
        return web.Response()

    async with serve(handle) as url:
        assert await failure(url) == "no response within 0.05 seconds"
        stopping.set()
