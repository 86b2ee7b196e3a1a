"""Provide the database to commands that run without the service."""

import contextlib
import logging
from collections.abc import Iterator

from service.embedded_postgres.server import EmbeddedServer
from service.settings.settings import Settings
from service.supervisor import block_signals, interruptible

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def running_database(settings: Settings) -> Iterator[str]:
    """Yield the URL of the database.

    Without ``DATABASE_URL``, start the embedded server first and stop it at the end. A signal to
    stop raises ``KeyboardInterrupt`` inside the block.
    """
    block_signals()
    if settings.database_url is not None:
        with interruptible():
            yield settings.database_url
        return
    embedded = EmbeddedServer(settings.data_dir, logger.info)
    try:
        with interruptible():
            yield embedded.start()
    finally:
        embedded.stop()
