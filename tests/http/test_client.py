import asyncio
from typing import Any

import pytest
from aiohttp import web

from service.http.app_keys import SETTINGS
from service.http.client import MAX_USER_AGENT, Client, client_of
from service.http.languages import LANGUAGES
from service.settings.settings import Settings

SOCKET = "127.0.0.1"


@pytest.mark.parametrize(
    ("proxies", "headers", "ip"),
    [
        (0, [], SOCKET),
        (0, ["192.0.2.1"], SOCKET),
        (1, [], SOCKET),
        (1, [""], SOCKET),
        (1, ["192.0.2.1"], "192.0.2.1"),
        (1, ["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
        (1, ["203.0.113.9,\t192.0.2.1 "], "192.0.2.1"),
        (1, ["192.0.2.1", "192.0.2.2"], "192.0.2.2"),
        (2, ["203.0.113.9, 192.0.2.1, 192.0.2.2"], "192.0.2.1"),
        (2, ["203.0.113.9, 192.0.2.1", "192.0.2.2"], "192.0.2.1"),
        (2, ["203.0.113.9", "192.0.2.1, 192.0.2.2"], "192.0.2.1"),
        (2, ["192.0.2.1"], SOCKET),
        (1, ["192.0.2.1, unknown"], SOCKET),
        (1, ["192.0.2.1, _hidden"], SOCKET),
        (1, ["192.0.2.1,"], SOCKET),
        (1, ["192.0.2.256"], SOCKET),
        (1, ["192.0.2.01"], SOCKET),
        (1, ["3221225985"], SOCKET),
        (1, ["192.0.2.1:x"], SOCKET),
        (1, ["[]"], SOCKET),
        (1, ["192.0.2.1:4711"], "192.0.2.1"),
        (1, ["2001:DB8:0::1"], "2001:db8::1"),
        (1, ["[2001:db8::1]"], "2001:db8::1"),
        (1, ["[2001:db8::1]:4711"], "2001:db8::1"),
        (1, ["fe80::1%eth0"], "fe80::1"),
        (1, ["::ffff:192.0.2.1"], "192.0.2.1"),
        (1, ["64:ff9b::192.0.2.1"], "192.0.2.1"),
    ],
)
async def test_client_ip_is_the_entry_of_a_trusted_proxy_or_the_socket(
    aiohttp_client: Any, proxies: int, headers: list[str], ip: str
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=client_of(request).ip)

    app = web.Application()
    app[SETTINGS] = Settings(trusted_proxies=proxies)
    app[LANGUAGES] = ("en",)
    app.router.add_get("/", handler)
    client = await aiohttp_client(app)
    sent = [("X-Forwarded-For", header) for header in headers]
    async with client.get("/", headers=sent) as response:
        assert await response.text() == ip


@pytest.mark.parametrize(
    ("ip", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("64:ff9b::c000:201", "192.0.2.1"),
        ("64:ff9b:1::c000:201", "64:ff9b:1::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_ip_key_is_the_ipv4_address_or_the_ipv6_network_of_64_bits(ip: str, key: str) -> None:
    assert Client.at(ip).ip_key == key


@pytest.mark.parametrize(
    ("ip", "key"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("2001:db8:1::", "2001:db8:1::/48"),
        ("2001:db8:2::", "2001:db8:2::/48"),
        ("192.0.2.1", None),
        ("::ffff:192.0.2.1", None),
        ("64:ff9b::c000:201", None),
        ("", None),
    ],
)
def test_site_key_is_the_ipv6_network_of_48_bits_or_none(ip: str, key: str | None) -> None:
    assert Client.at(ip).site_key == key


@pytest.mark.parametrize(
    ("sent", "user_agent"),
    [
        (b"curl/8.5.0", "curl/8.5.0"),
        (b"", None),
        (None, None),
        (b"x" * 301, "x" * MAX_USER_AGENT),
        ("Ünïcode".encode(), "Ünïcode"),
        (b"caf\xe9", "caf\N{REPLACEMENT CHARACTER}"),
    ],
)
async def test_client_has_its_language_and_a_short_storable_user_agent(
    aiohttp_client: Any, sent: bytes | None, user_agent: str | None
) -> None:
    seen: list[Client] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(client_of(request))
        assert client_of(request) is seen[-1], "the client is made once for each request"
        return web.Response()

    app = web.Application()
    app[SETTINGS] = Settings()
    app[LANGUAGES] = ("en", "de")
    app.router.add_get("/", handler)
    client = await aiohttp_client(app)
    header = b"" if sent is None else b"User-Agent: " + sent + b"\r\n"
    header += b"Accept-Language: de\r\n"
    reader, writer = await asyncio.open_connection(SOCKET, client.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + header + b"Connection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    assert seen == [Client(SOCKET, SOCKET, None, user_agent, "de")]
