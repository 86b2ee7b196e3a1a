"""Provide the database to commands that run without the service."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import asyncpg

from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import Database
from service.embedded_postgres.server import EmbeddedInUse, EmbeddedServer
from service.settings.settings import Settings
from service.signals import block_signals, interruptible

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class DatabaseCommandError(Exception):
    """The database cannot be used. The message is one sentence."""

    exit_status = 1


@contextlib.contextmanager
def running_database(settings: Settings, *, beside_service: bool = False) -> Iterator[str]:
    """Yield the URL of the database, without a pooler in front of it.

    Without ``DATABASE_URL``, start the embedded server first and stop it at the end. If a running
    service has started it, raise ``EmbeddedInUse``, or with ``beside_service`` use that server. A
    signal to stop raises ``KeyboardInterrupt`` inside the block.
    """
    block_signals()
    if settings.session_database_url is not None:
        with interruptible():
            yield settings.session_database_url
        return
    embedded = EmbeddedServer(settings.data_dir, logger.info)
    try:
        with interruptible():
            try:
                url = embedded.start()
            except EmbeddedInUse as error:
                if not beside_service or error.dsn is None:
                    raise
                url = error.dsn
            yield url
    finally:
        embedded.stop()


def run_with_database(
    settings: Settings, work: Callable[[Database], Awaitable[_Result]]
) -> _Result:
    """Run ``work`` on the database of ``settings`` and return its result.

    The service may run meanwhile. Raise ``DatabaseCommandError`` if the database cannot be reached
    or has another schema.
    """

    async def run(url: str) -> _Result:
        database = Database(url, size=1, prepared_statements=settings.database_prepared_statements)
        await database.open()
        try:
            return await work(database)
        finally:
            await database.close()

    with running_database(settings, beside_service=True) as url:
        try:
            return asyncio.run(run(url))
        except DatabaseUnavailable as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise DatabaseCommandError(f"The database cannot be reached: {reason}.") from error
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
            raise DatabaseCommandError(
                "The database has another version of the schema: run `python run.py migrate`."
            ) from error
