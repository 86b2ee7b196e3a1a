"""Parse the text of a setting: each function returns the value or raises ``ValueError``.

The error message continues the setting's name: ``PORT must be a whole number from 1 to 65535.``
"""

import re
from collections.abc import Callable
from email.errors import MessageError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import urlsplit

MINIMUM_SECRET_BYTES = 32  # RFC 7518, section 3.2: an HS256 key is at least as long as the hash.

# These pass the length check, but tutorials and documentation print them.
WELL_KNOWN_SECRETS = frozenset(
    {
        "your-256-bit-secret-your-256-bit-secret",
        "a-string-secret-at-least-256-bits-long",
        "your-super-secret-jwt-token-with-at-least-32-characters-long",
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "change-me-change-me-change-me-change-me",
        "changeme-changeme-changeme-changeme",
        "this-is-a-secret-key-for-jwt-signing",
        "replace-this-with-a-long-random-secret",
        "0123456789abcdef0123456789abcdef",
        "abcdefghijklmnopqrstuvwxyz123456",
    }
)


def text(value: str) -> str:
    """Return ``value`` unchanged: any text is valid."""
    return value


def path(value: str) -> Path:
    """Return a path. A leading ``~`` is replaced by the home directory."""
    return Path(value).expanduser()


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a parser of a whole number from ``lowest`` to ``highest``, both included."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", value) or not lowest <= int(value) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(value)

    return parse


def flag(value: str) -> bool:
    """Return a boolean from true, 1, yes, false, 0 or no, in upper or lower case."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return known[value.lower()]
    except KeyError:
        raise ValueError("must be true or false") from None


def one_of(*known: str) -> Callable[[str], str]:
    """Return a parser that accepts only the ``known`` words."""

    def parse(value: str) -> str:
        if value not in known:
            raise ValueError(f"must be {' or '.join(known)}")
        return value

    return parse


def secret(value: str) -> str:
    """Return a key for HS256. Reject one that is short, well known or easily guessed."""
    advice = "python -c 'import secrets; print(secrets.token_urlsafe(48))' makes one"
    if len(value.encode("utf-8", "surrogateescape")) < MINIMUM_SECRET_BYTES:
        raise ValueError(f"must be at least {MINIMUM_SECRET_BYTES} bytes long; {advice}")
    repeats = value in (value + value)[1:-1]
    if value.lower() in WELL_KNOWN_SECRETS or repeats or len(set(value)) < 8:
        raise ValueError(f"is well known or too easily guessed; {advice}")
    return value


def origin(value: str) -> str:
    """Return a web origin (RFC 6454), or ``*`` for all origins."""
    reason = "must list origins such as https://example.org, or be *"
    try:
        parts = urlsplit(value)
        is_origin = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(reason) from None
    if value != "*" and (not is_origin or value != f"{parts.scheme}://{parts.netloc}".lower()):
        raise ValueError(reason)
    return value


def domain(value: str) -> str:
    """Return a domain name in lower case. Reject an IP address, a URL and a port."""
    label = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
    given = value.lower()
    if not re.fullmatch(rf"{label}(?:\.{label})*", given) or given.rpartition(".")[2].isdigit():
        raise ValueError("must be a domain such as example.org")
    return given


def base_url(value: str) -> str:
    """Return an http or https URL without path and final slash, in lower case.

    No path: the pages of the service link to each other by absolute paths.
    """
    reason = "must look like https://accounts.example.org, without a path"
    host = r"(?:\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)"
    given = value.lower().removesuffix("/")
    try:
        has_port = urlsplit(given).port != 0
    except ValueError:
        raise ValueError(reason) from None
    if not has_port or not re.fullmatch(rf"https?://{host}(?::[0-9]+)?", given):
        raise ValueError(reason)
    return given


def frontend_url(value: str) -> str:
    """Return an http or https URL without query, fragment and final slash. It may have a path."""
    reason = "must look like https://example.org, with or without a path"
    try:
        parts = urlsplit(value)
        base_url(f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        raise ValueError(reason) from None
    if not re.fullmatch(r"(?:/[A-Za-z0-9._~%-]+)*/?", parts.path) or set(value) & set("?#"):
        raise ValueError(reason)
    return value.removesuffix("/")


def http_url(value: str) -> str:
    """Return an http or https URL without query, fragment and final slash.

    It may have a path and the credentials of a user.
    """
    try:
        parts = urlsplit(value)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or set(value) & set("?#") or not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must look like https://collector.example.org")
    return value.removesuffix("/")


def list_of(parse: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of a comma-separated list. It calls ``parse`` for each item."""

    def parse_all(value: str) -> tuple[str, ...]:
        return tuple(parse(part.strip()) for part in value.split(",") if part.strip())

    return parse_all


def database_url(value: str) -> str:
    """Return a libpq connection URL. Reject another scheme or an invalid port."""
    reason = "must look like postgresql://user:password@host:5432/database"
    try:
        parts = urlsplit(value)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        ports = [host.rpartition(":")[2] for host in hosts if re.search(r":[^\]]*$", host)]
    except ValueError:
        raise ValueError(reason) from None
    if parts.scheme not in ("postgres", "postgresql"):
        raise ValueError(reason)
    if any(not port.isdigit() or not 0 < int(port) < 65536 for port in ports):
        raise ValueError(reason + ", with a port from 1 to 65535")
    return value


def smtp_url(value: str) -> str:
    """Return the URL of a mail server. Reject a user without a password, and the reverse."""
    reason = "must look like smtp://user:password@host:587, or smtps:// for TLS from the start"
    try:
        parts = urlsplit(value)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(reason) from None
    if parts.scheme not in ("smtp", "smtps") or not is_whole or parts.path.strip("/"):
        raise ValueError(reason)
    if bool(parts.username) != bool(parts.password):
        raise ValueError(reason + "; user and password go together")
    return value


def mailbox(value: str) -> str:
    """Return an email (RFC 5322), with or without a display name."""
    name, address = parseaddr(value)
    try:
        if not address.isascii() or not address.partition("@")[2] or not value.isprintable():
            raise ValueError
        Address(name, addr_spec=address)
    except (ValueError, IndexError, MessageError):
        raise ValueError("must look like Accounts <accounts@example.org>") from None
    return value
