from typing import Any

import pytest
from aiohttp import web

from service.http.app_keys import SETTINGS
from service.http.client import address_key, client_address, site_key
from service.settings.settings import Settings

SOCKET = "127.0.0.1"


@pytest.mark.parametrize(
    ("proxies", "headers", "address"),
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
async def test_only_the_entry_of_a_trusted_proxy_is_believed(
    aiohttp_client: Any, proxies: int, headers: list[str], address: str
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=client_address(request))

    app = web.Application()
    app[SETTINGS] = Settings(trusted_proxies=proxies)
    app.router.add_get("/", handler)
    client = await aiohttp_client(app)
    sent = [("X-Forwarded-For", header) for header in headers]
    async with client.get("/", headers=sent) as response:
        assert await response.text() == address


@pytest.mark.parametrize(
    ("address", "key"),
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
def test_an_ipv6_network_counts_as_one_client(address: str, key: str) -> None:
    assert address_key(address) == key


@pytest.mark.parametrize(
    ("address", "key"),
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
def test_site_of_an_ipv6_address_is_its_48(address: str, key: str | None) -> None:
    assert site_key(address) == key
