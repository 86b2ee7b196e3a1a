"""The client of a request: its IP address and the keys for it, its user agent and its language."""

import ipaddress
import re
from dataclasses import dataclass, replace
from functools import lru_cache

from aiohttp import hdrs, web

from service.http.app_keys import SETTINGS
from service.http.languages import LANGUAGES, language_of

MAX_USER_AGENT = 300  # Characters of the ``User-Agent`` header that are kept.

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052, section 2.1.

# Some proxies write the client's port too: 192.0.2.1:1234, [2001:db8::1]:1234.
_WITH_PORT = re.compile(r"(?:\[(?P<bracketed>[^\]]*)\]|(?P<plain>[0-9.]+))(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Client:
    """The client that sent a request. ``client_of`` returns the one of a request."""

    ip: str | None
    """The IP address in its short form, or ``None`` if it is not known."""
    ip_key: str
    """The rate-limit key of the IP address: the IPv4 address, or the /64 network of IPv6.

    Providers assign each customer at least a /64 (RFC 6177). It has too many IP addresses to count
    each one separately. The key of an unknown IP address is ``""``.
    """
    site_key: str | None
    """The /48 network of an IPv6 address, or ``None``.

    A /48 is the largest network that one customer usually gets (RFC 6177). It contains 65,536
    networks with different values of ``ip_key``.
    """
    user_agent: str | None
    """The start of the ``User-Agent`` header, or ``None`` without that header."""
    language: str
    """The language of the mails that the request causes."""
    actor: str | None = None
    """The administrator: the name of an API key, or ``cli``. ``None`` for any other client."""

    @classmethod
    def at(cls, ip: str, user_agent: str | None = None, language: str = "en") -> "Client":
        """Return the client at the IP address ``ip``. Any other text is an unknown IP address."""
        parsed = _parse(ip)
        if parsed is None:
            return cls(None, "", None, user_agent, language)
        if isinstance(parsed, ipaddress.IPv4Address):
            return cls(str(parsed), str(parsed), None, user_agent, language)
        return cls(str(parsed), _network(parsed, 64), _network(parsed, 48), user_agent, language)


def client_of(request: web.Request) -> Client:
    """Return the client of ``request``. It is made at the first call and kept in the request."""
    client: Client | None = request.get("client")
    if client is None:
        user_agent = request.headers.get(hdrs.USER_AGENT, "")[:MAX_USER_AGENT]
        # aiohttp decodes bytes that are not UTF-8 as surrogates, which PostgreSQL cannot store.
        readable = user_agent.encode(errors="surrogateescape").decode(errors="replace")
        language = language_of(request, request.app[LANGUAGES])
        client = request["client"] = _client_at(_ip_of(request), readable or None, language)
    return client


def administrator_of(request: web.Request) -> Client:
    """Return the client of a request with an API key, with the name of the key as the actor."""
    return replace(client_of(request), actor=request["key"].name)


# Clients send many requests. For IPv6, making a client takes longer than the rest of a cached
# authentication.
_client_at = lru_cache(maxsize=4096)(Client.at)


def _ip_of(request: web.Request) -> str:
    """Return the text that names the client's IP address.

    With ``TRUSTED_PROXIES`` = n, this is the n-th entry of ``X-Forwarded-For`` from the right. Each
    proxy appends the IP address of its peer. A client can forge all entries further left. If that
    entry is missing or is not an IP address, only the IP address of the socket can be trusted.
    """
    proxies = request.app[SETTINGS].trusted_proxies
    if proxies:
        entries = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())).split(",")
        if len(entries) >= proxies:
            ip = _parse(entries[-proxies].strip(" \t"))
            if ip is not None:
                return str(ip)
    return request.remote or ""


def _network(ip: ipaddress.IPv6Address, prefix: int) -> str:
    """Return the network of ``ip`` whose length is ``prefix`` bits."""
    return str(ipaddress.ip_network((ip, prefix), strict=False))


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address in ``text`` without port, brackets and scope, or ``None``.

    For an IPv4 address inside an IPv6 address, mapped or translated (NAT64), return the IPv4
    address. Otherwise all IPv4 clients would share one /64 network.
    """
    if match := _WITH_PORT.fullmatch(text):
        text = match["bracketed"] or match["plain"] or ""
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _TRANSLATED:
            return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        return ip.ipv4_mapped or ip
    return ip
