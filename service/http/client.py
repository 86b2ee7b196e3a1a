"""Find the IP address of a client: from the socket, or from the header of a trusted proxy."""

import ipaddress
import re

from aiohttp import hdrs, web

from service.http.app_keys import SETTINGS

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052, section 2.1.

# Some proxies write the client's port too: 192.0.2.1:1234, [2001:db8::1]:1234.
_WITH_PORT = re.compile(r"(?:\[(?P<bracketed>[^\]]*)\]|(?P<plain>[0-9.]+))(?::[0-9]{1,5})?")


def client_address(request: web.Request) -> str:
    """Return the client's IP address in its short form, or ``""`` if the socket has none.

    With ``TRUSTED_PROXIES`` = n, the IP address is the n-th entry of ``X-Forwarded-For`` from the
    right. Each proxy appends the IP address of its peer. A client can forge all entries further
    left. If that entry is missing or is not an IP address, only the IP address of the socket can be
    trusted.
    """
    proxies = request.app[SETTINGS].trusted_proxies
    socket = _parse(request.remote or "")
    if proxies:
        entries = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())).split(",")
        named = _parse(entries[-proxies].strip(" \t")) if len(entries) >= proxies else None
        socket = named or socket
    return str(socket) if socket is not None else ""


def address_key(address: str) -> str:
    """Return the rate-limit key of an IP address: the IPv4 address, or the /64 network of IPv6.

    Providers assign each customer at least a /64 (RFC 6177). It has too many IP addresses to count
    each one separately. A text that is not an IP address is its own key.
    """
    parsed = _parse(address)
    if parsed is None:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def site_key(address: str) -> str | None:
    """Return the /48 network of an IPv6 address, or ``None`` for any other text.

    A /48 is the largest network that one customer usually gets (RFC 6177). It contains 65,536
    networks with different ``address_key`` values.
    """
    parsed = _parse(address)
    if not isinstance(parsed, ipaddress.IPv6Address):
        return None
    return str(ipaddress.ip_network((parsed, 48), strict=False))


def _parse(text: str) -> Address | None:
    """Return the IP address in ``text`` without port, brackets and scope, or ``None``.

    For an IPv4 address inside an IPv6 address, mapped or translated (NAT64), return the IPv4
    address. Otherwise all IPv4 clients would share one /64 network.
    """
    if match := _WITH_PORT.fullmatch(text):
        text = match["bracketed"] or match["plain"] or ""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        return address.ipv4_mapped or address
    return address
