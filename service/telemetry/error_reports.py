"""Send each error in the log to Sentry, without personal data."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from service import __version__
from service.logs import REQUEST_ID
from service.telemetry.extras import import_extra

MAX_QUEUED = 100  # Reports. A thread sends them, and more are dropped.
FLUSH_SECONDS = 2.0


def error_reports(dsn: str) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a cleanup context that sends reports to ``dsn`` while the application runs.

    Raise ``ExtraMissing`` without the library, and ``ValueError`` if ``dsn`` is not valid.
    """
    # Import it now, before the workers are forked: they share its memory.
    sdk = import_extra("sentry_sdk", extra="sentry", setting="SENTRY_DSN")
    logs = import_extra("sentry_sdk.integrations.logging", extra="sentry", setting="SENTRY_DSN")
    utils = import_extra("sentry_sdk.utils", extra="sentry", setting="SENTRY_DSN")
    utils.Dsn(dsn)

    async def run(app: web.Application) -> AsyncIterator[None]:
        # The client starts a thread, which no fork would copy.
        sdk.init(
            dsn,
            release=__version__,
            # The others read requests, the environment and the arguments of functions.
            default_integrations=False,
            integrations=[logs.LoggingIntegration(level=None, event_level=logging.ERROR)],
            auto_enabling_integrations=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            transport_queue_size=MAX_QUEUED,
            shutdown_timeout=0,
            before_send=_before_send,
        )
        yield
        await asyncio.to_thread(sdk.get_client().close, FLUSH_SECONDS)

    return run


def _before_send(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    """Add the request id. Remove what PostgreSQL quotes of a row, as the log does."""
    for error in event.get("exception", {}).get("values", ()):
        error["value"] = (error.get("value") or "").partition("\nDETAIL:")[0]
    if request_id := REQUEST_ID.get():
        event.setdefault("tags", {})["request_id"] = request_id
    return event
