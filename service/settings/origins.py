"""Hosts and web origins of URLs."""

from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


def host_of(url: str) -> str:
    """Return the host of ``url`` in lower case, or ``""`` if it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def origin_of(url: str) -> str:
    """Return the origin of a valid http(s) ``url`` in the form in which browsers send it.

    The form is that of the HTML standard ("serialization of an origin"): in lower case, without the
    default port.
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def is_within(host: str, domain: str) -> bool:
    """Return whether ``host`` is ``domain`` or below it."""
    return host == domain or host.endswith(f".{domain}")
