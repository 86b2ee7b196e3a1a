"""Parse the settings of identity providers: the providers, and where a front-end may get a result.

The messages of ``ValueError`` continue the setting's name, as in ``parsers.py``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

GOOGLE_ISSUER = "https://accounts.google.com"
GITHUB_ISSUER = "https://github.com"

RESERVED_NAMES = frozenset({"google", "github", "exchange"})
"""The names of the providers with settings of their own, and a path of the service."""

ALGORITHMS = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA"),
    }
)
"""The algorithms that a provider may sign with. All are asymmetric: a client secret signs none."""

_HOST_AND_PORT = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?"
_EXAMPLE = (
    '[{"name": "keycloak", "issuer": "https://id.example.org/realms/main", '
    '"client_id": "...", "client_secret": "..."}]'
)
_REQUIRED = ("name", "issuer", "client_id", "client_secret")
_OPTIONAL = ("label", "algorithms")


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An OpenID provider, and the client that this service is there."""

    name: str
    """The name in paths."""
    issuer: str
    client_id: str
    client_secret: str
    label: str
    """The name for people."""
    algorithms: tuple[str, ...] = ("RS256",)
    """The algorithms of ID tokens. RS256 is the default of OpenID Connect."""


def is_secure_url(url: object) -> bool:
    """Return whether ``url`` is an https URL, or an http URL of this machine.

    It must be printable ASCII without user, password and fragment.
    """
    if not isinstance(url, str) or not re.fullmatch(r"[!-~]{1,2048}", url) or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        host, has_port = parts.hostname, parts.port != 0
    except ValueError:
        return False
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
    return bool(host) and has_port and is_safe and "@" not in parts.netloc and "#" not in url


def client_text(value: str) -> str:
    """Return the id or the secret of a client.

    A file can be empty, and a request can have no other characters.
    """
    if not value.strip() or not value.isprintable():
        raise ValueError("must be a text of printable characters")
    return value


def oidc_providers(value: str) -> tuple[OidcProvider, ...]:
    """Return the providers in a JSON array. Reject an unknown key: it may be a misspelt one."""
    try:
        given = json.loads(value)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise ValueError(f"must be a JSON array such as {_EXAMPLE}")
    providers = tuple(_provider(item) for item in given)
    for key in ("name", "issuer"):
        values = [getattr(provider, key) for provider in providers]
        if len(values) != len(set(values)):
            raise ValueError(f"must not have two providers with the same {key}")
    return providers


def _provider(given: Mapping[str, Any]) -> OidcProvider:
    """Return the provider in an object of the array."""
    if unknown := sorted(given.keys() - {*_REQUIRED, *_OPTIONAL}):
        # The message is one line, whatever the key is.
        key = "".join(filter(str.isprintable, unknown[0]))
        raise ValueError(f"has an unknown key: {key}")
    for key in _REQUIRED:
        value = given.get(key)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ValueError(f"must have a text as the {key} of each provider")
    name, label = given["name"], given.get("label", given["name"])
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,28}[a-z0-9])?", name):
        raise ValueError("must have names of lower-case letters, digits and hyphens")
    if name in RESERVED_NAMES:
        raise ValueError(f"must not have a provider with the name {name}")
    if not is_secure_url(given["issuer"]) or "?" in given["issuer"]:
        raise ValueError(f"must have an https URL as the issuer of {name}")
    # Otherwise an identity there would be that of two providers.
    if given["issuer"] in (GOOGLE_ISSUER, GITHUB_ISSUER):
        raise ValueError(f"must not have the issuer of {name}, which has settings of its own")
    if not isinstance(label, str) or not label.isprintable() or not 1 <= len(label.strip()) <= 50:
        raise ValueError(f"must have a label of at most 50 characters for {name}")
    return OidcProvider(
        name,
        given["issuer"],
        given["client_id"],
        given["client_secret"],
        label,
        _algorithms(given.get("algorithms", ["RS256"])),
    )


def _algorithms(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not set(map(str, given)) <= ALGORITHMS:
        raise ValueError(f"must list algorithms from {', '.join(sorted(ALGORITHMS))}")
    return tuple(given)


def redirect_url(value: str) -> str:
    """Return the normal form of a URL of a front-end that gets the result of a sign-in.

    Two URLs lead to the same page if their normal forms are equal. Scheme and host are in lower
    case, and the port of the scheme is left out. Reject every URL that a browser could understand
    in another way than this parser: backslashes, a user, a fragment, a query, percent-escapes, and
    a path with ``.``, ``..`` or empty segments.
    """
    reason = (
        "must list URLs such as https://app.example.org/signed-in, without a query; "
        "http is only for localhost"
    )
    if not is_secure_url(value):
        raise ValueError(reason)
    parts = urlsplit(value)
    segments = parts.path.split("/")[1:]
    has_plain_host = re.fullmatch(_HOST_AND_PORT, parts.netloc)
    has_plain_path = re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path)
    climbs = bool({".", ".."} & set(segments)) or "" in segments[:-1]
    if "?" in value or not has_plain_host or not has_plain_path or climbs:
        raise ValueError(reason)
    default = {"https": 443, "http": 80}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, default) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path or '/'}"
