"""Check that notifications arrive, and that a pooler in between fits the settings."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import psycopg

from service.database.pooler_check import supports_prepared_statements
from service.doctor.connection import NOT_RUNNING, CannotConnect, connect
from service.doctor.findings import Context, Finding, note, ok, problem

NOTIFY_TIMEOUT = 5.0  # Seconds. A notification usually arrives within milliseconds.


async def check_listen(context: Context) -> AsyncIterator[Finding]:
    """Check that notifications arrive, and that a pooler in between fits the settings.

    A pooler in transaction mode runs LISTEN on a connection that it then gives to another client:
    it accepts the statement, and no notification arrives.
    """
    url, (listen_url, listen_setting) = context.database_url, context.session_database_url
    if url is None or listen_url is None:
        yield note(NOT_RUNNING, "start the service, and run this command beside it")
        return
    try:
        async with connect(listen_url, listen_setting) as listening, connect(url) as notifying:
            is_pooled = await _has_pooler(notifying)
            has_arrived = await _notify(listening, notifying)
    except CannotConnect as error:
        yield problem(str(error), error.action)
        return
    if has_arrived:
        yield ok(f"a notification of DATABASE_URL arrives at {listen_setting}")
    elif listen_url == url:
        yield problem(
            "no notification arrives, as behind a pooler in transaction mode: the service does not "
            "start",
            "set DATABASE_LISTEN_URL to the URL of PostgreSQL itself",
        )
    else:
        yield problem(
            "no notification of DATABASE_URL arrives at DATABASE_LISTEN_URL: the service does not "
            "start",
            "let it name the same database, past the pooler",
        )
    if is_pooled:
        yield await _check_pooler(url, is_prepared=context.settings.database_prepared_statements)


async def _has_pooler(connection: asyncpg.Connection) -> bool:
    """Return whether a pooler responds: it made up the process id that it sent at connecting."""
    async with connection.transaction(readonly=True):
        backend_pid = await connection.fetchval("select pg_backend_pid()")
    return bool(backend_pid != connection.get_server_pid())


async def _notify(listening: asyncpg.Connection, notifying: asyncpg.Connection) -> bool:
    """Return whether a notification of ``notifying`` arrives at ``listening``."""
    channel = f"doctor_{secrets.token_hex(8)}"
    arrived = asyncio.Event()

    def note_arrival(*_: Any) -> None:
        arrived.set()

    await listening.add_listener(channel, note_arrival)
    try:
        await notifying.execute(f"notify {channel}")
        async with asyncio.timeout(NOTIFY_TIMEOUT):
            await arrived.wait()
        return True
    except TimeoutError:
        return False
    finally:
        # Through a pooler, the connection to the server outlives this one.
        await listening.remove_listener(channel, note_arrival)


async def _check_pooler(url: str, *, is_prepared: bool) -> Finding:
    """Return the finding for the prepared statements of the pooler at ``url``."""
    try:
        is_supported = await asyncio.to_thread(supports_prepared_statements, url)
    except psycopg.Error as error:
        return note(f"the pooler of DATABASE_URL cannot be examined: {type(error).__name__}")
    if is_supported == is_prepared:
        return ok("the pooler of DATABASE_URL fits DATABASE_PREPARED_STATEMENTS")
    if is_prepared:
        return problem(
            "the pooler of DATABASE_URL does not support prepared statements",
            "set DATABASE_PREPARED_STATEMENTS=false, or upgrade PgBouncer to 1.21 or newer",
        )
    return note(
        "the pooler of DATABASE_URL supports prepared statements",
        "remove DATABASE_PREPARED_STATEMENTS=false: queries take less time with them",
    )
