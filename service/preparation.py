"""What precedes the workers: migrate the database, load the application, check a new version.

The functions import what they need themselves. A child process migrates, so that the parent does
not load the library for migrations, and nothing of the metrics is loaded without their port.
"""

import gc
import logging
import os
import socket
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from service.listening_sockets import StartError
from service.reload import Handover
from service.settings.settings import Settings
from service.signals import INTERRUPTS, interruptible

if TYPE_CHECKING:
    from aiohttp import web

    from service.metrics.metrics import Metrics

logger = logging.getLogger(__name__)


def check_new_version(settings: Settings, handover: Handover) -> None:
    """Check whether this version can take over from a running one, and migrate the database.

    The migration comes now, because only here its failure leaves the running version in place.
    Raise ``StartError``, ``MigrationError`` or any error that a start raises.
    """
    if addresses(settings) != handover.addresses:
        raise StartError(
            "HOST, PORT, METRICS_HOST and METRICS_PORT cannot change in a reload: restart the"
            " service."
        )
    data_dir = str(settings.data_dir.absolute()) if settings.embedded else None
    if data_dir != (handover.embedded.data_dir if handover.embedded is not None else None):
        raise StartError(
            "The embedded database and DATA_DIR cannot change in a reload: restart the service."
        )
    url = handover.embedded.dsn if handover.embedded is not None else settings.database_url or ""
    _prepare_database(settings, url)
    with socket.socket() as sock:  # The metrics need one, and nothing listens here.
        is_measured = settings.metrics_port is not None
        load(settings, url, open_metrics(settings, sock if is_measured else None))


def addresses(settings: Settings) -> list[str | int | None]:
    """Return the settings that decide on which addresses the service listens."""
    return [settings.host, settings.port, settings.metrics_host, settings.metrics_port]


def run_migration(
    settings: Settings, url: str, message: int, wait_for_server: Callable[[], None] | None
) -> int:
    """Migrate the database. Return the exit status. Write the text of an error to ``message``.

    ``wait_for_server`` returns when the server accepts connections. Without it, connect at once.
    """
    from service.database.migrate import MigrationError

    try:
        with interruptible(INTERRUPTS):
            if wait_for_server is not None:
                wait_for_server()
            _prepare_database(settings, url)
    except MigrationError as error:
        os.write(message, str(error).encode())
        return 1
    return 0


def _prepare_database(settings: Settings, url: str) -> None:
    """Check the URLs of the database and migrate it. Raise ``MigrationError``."""
    from service.database.connection_limit import warn_of_connection_limit
    from service.database.migrate import migrate
    from service.database.pooler_check import check_pooler

    session_url = settings.session_database_url or url
    check_pooler(settings, logger.info)
    migrate(session_url, logger.info)
    warn_of_connection_limit(settings, session_url)


def load(settings: Settings, database_url: str, metrics: "Metrics | None") -> "web.Application":
    """Return the application that every worker serves. Raise ``TemplateError``.

    It is created before the workers are forked, and runs in none but them: they share most of its
    memory.
    """
    # What is loaded is permanent. A collection now would search in vain, and a later one in a
    # worker would write to every object that is not frozen: the kernel then copies its page.
    gc.disable()
    try:
        return _load(settings, database_url, metrics)
    finally:
        gc.freeze()
        gc.enable()


def _load(settings: Settings, database_url: str, metrics: "Metrics | None") -> "web.Application":
    from service.accounts.passwords.blocklist import load_blocklist
    from service.app import create_app
    from service.http.connections import raise_descriptor_limit

    import_module("service.worker")
    load_blocklist(settings)
    raise_descriptor_limit()
    log, parts = (metrics.request_log, metrics.parts) if metrics is not None else (None, None)
    return create_app(settings, database_url, log, parts)


def open_metrics(settings: Settings, sock: socket.socket | None) -> "Metrics | None":
    """Return the metrics, or ``None`` without a socket. Nothing of them is loaded then."""
    if sock is None:
        return None
    from service.metrics.metrics import Metrics

    return Metrics(settings.web_concurrency, sock)
