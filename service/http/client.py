"""Where a request comes from: the socket's address, or what a trusted proxy says it is."""

import ipaddress
import re

from aiohttp import hdrs, web

from service.http.errors import SETTINGS

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Some proxies write the client's port too: 192.0.2.1:1234, [2001:db8::1]:1234.
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052, section 2.1.

_WITH_PORT = re.compile(r"(?:\[(?P<bracketed>[^\]]*)\]|(?P<plain>[0-9.]+))(?::[0-9]{1,5})?")


def client_address(request: web.Request) -> str:
    """The IP address of the client, in its short form; ``""`` where the socket has none.

    With ``TRUSTED_PROXIES`` = n it is the n-th entry of ``X-Forwarded-For`` from the right: each
    proxy appends whom it heard, so whatever stands further left is anybody's invention. Without
    such an entry, or when it is no address, the socket's own address is all that can be believed.
    """
    proxies = request.app[SETTINGS].trusted_proxies
    socket = _parse(request.remote or "")
    if proxies:
        entries = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())).split(",")
        named = _parse(entries[-proxies].strip(" \t")) if len(entries) >= proxies else None
        socket = named or socket
    return str(socket) if socket is not None else ""


def address_key(address: str) -> str:
    """What counts as one client: an IPv4 address, or a network of 64 bits in IPv6.

    Providers give every customer a /64 at least (RFC 6177), with more addresses than any counter
    could tell apart. What is no address is its own key.
    """
    parsed = _parse(address)
    if parsed is None:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def site_key(address: str) -> str | None:
    """The /48 of an IPv6 address, or ``None`` for IPv4 and for what is no address.

    A /48 is the largest network that one customer usually gets (RFC 6177): 65,536 networks that
    ``address_key`` tells apart.
    """
    parsed = _parse(address)
    if not isinstance(parsed, ipaddress.IPv6Address):
        return None
    return str(ipaddress.ip_network((parsed, 48), strict=False))


def _parse(text: str) -> Address | None:
    """The address in ``text``, without port, brackets and scope.

    An IPv4 address inside an IPv6 one, mapped or translated (NAT64), is that IPv4 address: else all
    of IPv4 would be one network of 64 bits.
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
