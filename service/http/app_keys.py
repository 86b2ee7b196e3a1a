"""The keys of the application under which ``service/http`` finds its configuration.

A component with a class of its own, such as ``RequestLog``, has its key beside the class.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from service.settings.settings import Settings

SETTINGS = web.AppKey("settings", Settings)

Authenticate = Callable[[str], Awaitable[Any]]
"""Return the user of a token, or raise ``Unauthorized``."""

AUTHENTICATE: web.AppKey[Authenticate] = web.AppKey("authenticate")

AuthenticateKey = Callable[[str, Any], Awaitable[Any]]
"""Return the API key with this text, which a ``Client`` has sent, or raise an ``ApiError``."""

AUTHENTICATE_KEY: web.AppKey[AuthenticateKey] = web.AppKey("authenticate_key")

RequireFreshProof = Callable[[Any], Awaitable[None]]
"""Raise an ``ApiError`` unless the person of this user proved lately who they are."""

REQUIRE_FRESH_PROOF: web.AppKey[RequireFreshProof] = web.AppKey("require_fresh_proof")

DOCUMENT = web.AppKey("document", bytes)
"""The OpenAPI document as JSON. The application sets it after all routes are registered."""
