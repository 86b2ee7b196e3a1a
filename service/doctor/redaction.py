"""Remove the secrets of the settings from a text."""

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from service.settings.identity_providers import OidcProvider
from service.settings.settings import Settings

REDACTED = "***"
MIN_LENGTH = 4  # Characters. A shorter text is part of many words.

_SECRET_NAMES = re.compile(r"(?:^|_)(?:secrets?|keys?|tokens?|dsn)$")
_SECRET_PARAMETERS = frozenset({"password", "sslpassword"})


def secrets_of(settings: Settings) -> set[str]:
    """Return the secrets of ``settings``: keys, client secrets, and the passwords in URLs."""
    found: set[str] = set()
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        for each in value if isinstance(value, tuple) else (value,):
            found.update(_secrets_in(setting.name, each))
    return {secret for secret in found if len(secret) >= MIN_LENGTH}


def redact(text: str, secrets: set[str]) -> str:
    """Return ``text`` with ``***`` instead of each of ``secrets``."""
    # A secret may contain another one.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return text


def _secrets_in(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, OidcProvider):
        yield value.client_secret
    elif isinstance(value, str) and _SECRET_NAMES.search(name):
        yield value
    elif isinstance(value, str) and "://" in value:
        parts = urlsplit(value)
        if parts.password:
            yield from (parts.password, unquote(parts.password))
        for parameter, text in parse_qsl(parts.query):
            if parameter in _SECRET_PARAMETERS:
                yield text
