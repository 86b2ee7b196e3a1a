"""Test what a connection that fails says."""

import asyncio

import asyncpg
import pytest

from service.doctor import connection
from service.doctor.connection import CannotConnect, connect
from tests.conftest import url_of
from tests.processes import free_port


async def failure(url: str) -> CannotConnect:
    """Return the error of connecting to ``url``."""
    with pytest.raises(CannotConnect) as raised:
        async with connect(url):
            pass
    assert "word" not in f"{raised.value} {raised.value.action}"
    return raised.value


async def test_refused_connection_and_unknown_host_are_named() -> None:
    assert "refused" in str(await failure(f"postgresql://u:word@127.0.0.1:{free_port()}/x"))
    assert "host is unknown" in str(await failure("postgresql://u:word@nohost.invalid/x"))


async def test_unknown_database_is_named(server_url: str) -> None:
    assert "no such database" in str(await failure(url_of(server_url, "nowhere")))


async def test_url_that_cannot_be_used_is_not_quoted() -> None:
    assert "URL cannot be used" in str(await failure("postgresql://u:word@h/x?sslmode=word"))


async def test_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 0.05)
    closing = asyncio.Event()

    async def stay(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closing.wait()
        writer.close()

    async with await asyncio.start_server(stay, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(f"postgresql://u:word@127.0.0.1:{port}/x?sslmode=disable")
        assert "does not respond" in str(error)
        closing.set()


async def test_failed_statement_is_named_without_its_text(database_url: str) -> None:
    with pytest.raises(CannotConnect, match="UndefinedTableError"):
        async with connect(database_url) as opened:
            await opened.execute("select * from nothing")


async def test_no_free_connection_is_named(db: asyncpg.Connection, database_url: str) -> None:
    """A role with a limit stands for a server that is full."""
    await db.execute("create role narrow login connection limit 0")
    try:
        head, _, tail = database_url.partition("://")
        error = await failure(f"{head}://narrow@{tail.partition('@')[2]}")
        assert "no free connection" in str(error)
    finally:
        await db.execute("drop role narrow")
