"""Test that mails leave soon, and that a slow one holds up neither other mails nor requests."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.database.pool import Database
from service.mail.outbox import CONCURRENCY, Outbox, write_mail
from tests.accounts.lockout_emails import queued
from tests.accounts.logins import login, statuses
from tests.conftest import MakeClient
from tests.mail.mail_server import MailServer
from tests.mail.outboxes import mail_to, outbox_of


@pytest.fixture
async def running(outbox: Outbox, server: MailServer) -> AsyncIterator[Outbox]:
    """Yield an outbox that sends in the background."""
    outbox.start()
    yield outbox
    server.gate.set()
    await outbox.stop()


async def write(db: asyncpg.Connection, *recipients: str) -> None:
    for recipient in recipients:
        await write_mail(db, mail_to(recipient))


async def arrivals(server: MailServer, count: int) -> set[str]:
    """Wait for ``count`` mails and return their recipients."""
    async with asyncio.timeout(10):
        return {await server.recipients.get() for _ in range(count)}


def users(count: int) -> list[str]:
    return [f"user{number}@example.test" for number in range(count)]


async def test_mail_leaves_within_a_second_of_the_commit(
    running: Outbox, server: MailServer, db: asyncpg.Connection
) -> None:
    for recipient in users(4):
        await write(db, recipient)
        async with asyncio.timeout(1):
            assert await server.recipients.get() == recipient


async def test_slow_recipients_delay_no_other_mail(
    running: Outbox, server: MailServer, db: asyncpg.Connection
) -> None:
    slow = {f"slow{number}@example.test" for number in range(CONCURRENCY - 1)}
    server.slow = slow
    server.gate.clear()
    await write(db, *slow)
    assert await arrivals(server, len(slow)) == slow
    await write(db, *users(20))
    assert await arrivals(server, 20) == set(users(20))
    assert not {envelope.rcpt_tos[0] for envelope in server.envelopes} & slow


async def test_process_sends_at_most_four_mails_at_a_time(
    running: Outbox, server: MailServer, db: asyncpg.Connection
) -> None:
    server.gate.clear()
    await write(db, *users(12))
    first = await arrivals(server, CONCURRENCY)
    claimed = await db.fetchval("select count(*) from outbox where attempts > 0")
    server.gate.set()
    assert first | await arrivals(server, 12 - CONCURRENCY) == set(users(12))
    assert (claimed, server.max_running) == (CONCURRENCY, CONCURRENCY)


async def test_process_with_slow_recipients_leaves_the_other_mails_to_other_processes(
    running: Outbox, database: Database, server: MailServer, db: asyncpg.Connection
) -> None:
    slow = {f"slow{number}@example.test" for number in range(CONCURRENCY)}
    server.slow = slow
    server.gate.clear()
    await write(db, *slow)
    assert await arrivals(server, CONCURRENCY) == slow
    other = outbox_of(database, server)
    other.start()
    try:
        await write(db, *users(8))
        assert await arrivals(server, 8) == set(users(8))
    finally:
        server.gate.set()
        await other.stop()


async def test_requests_do_not_wait_for_a_mail_server_that_does_not_reply(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    """An attempt to send would take ten seconds. These requests queue more mails than slots."""
    connections: list[asyncio.StreamWriter] = []
    is_connected = asyncio.Event()

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        is_connected.set()

    silent = await asyncio.start_server(connected, "127.0.0.1")
    port = silent.sockets[0].getsockname()[1]
    client = await make_client(
        smtp_url=f"smtp://127.0.0.1:{port}", mail_from="us@example.org", trusted_proxies=1
    )
    names = [f"user{number}" for number in range(3 * CONCURRENCY)]
    try:
        async with asyncio.timeout(8):
            for number, name in enumerate(names):
                await client.register(name)
                guesses = (login(client, name, ip=f"203.0.113.{number}") for _ in range(5))
                assert await statuses(*guesses) == {401: 5}
                # From the second request on, an attempt to send is running.
                await is_connected.wait()
        assert len(await queued(db)) == len(names)
    finally:
        silent.close()
        for writer in connections:
            writer.close()
