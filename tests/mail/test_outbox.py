"""Test that the outbox keeps a mail until a server accepts it, and sends no mail too often."""

import asyncio
import logging
from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.database.pool import Database
from service.mail.message import Mail
from service.mail.outbox import LIFETIME, PAUSE, Outbox, write_mail
from service.mail.smtp import create_mailer
from service.settings.settings import Settings
from tests.mail.mail_server import MailServer, serve_mail

MAIL = Mail("alice@example.test", "Subject", "Text\n")


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with serve_mail(MailServer()) as server:
        yield server


@pytest.fixture
async def database(db: asyncpg.Connection, database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, 5)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def outbox(database: Database, server: MailServer) -> Outbox:
    """Return an outbox whose background task is not started."""
    return outbox_of(database, server)


def outbox_of(database: Database, server: MailServer) -> Outbox:
    settings = Settings(smtp_url=f"smtp://127.0.0.1:{server.port}", mail_from="us@example.org")
    return Outbox(database, create_mailer(settings))


async def queued_mails(db: asyncpg.Connection) -> list[tuple[int, int]]:
    """Return the attempts so far, and the seconds until the next, of each mail."""
    rows = await db.fetch(
        "select attempts, round(extract(epoch from due_at - now()))::integer from outbox"
    )
    return [tuple(row) for row in rows]


async def test_outbox_sends_a_committed_mail_once_and_a_rolled_back_mail_never(
    database: Database, outbox: Outbox, server: MailServer, db: asyncpg.Connection
) -> None:
    async def write_and_fail(connection: asyncpg.Connection) -> None:
        await write_mail(connection, Mail("bob@example.test", "x", "y"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.transact(write_and_fail)
    await write_mail(db, MAIL)
    assert [await outbox.send_next() for _ in range(3)] == [True, False, False]
    assert [envelope.rcpt_tos for envelope in server.envelopes] == [[MAIL.recipient]]
    assert await queued_mails(db) == []


async def test_outbox_doubles_the_pause_after_each_temporary_error(
    outbox: Outbox, server: MailServer, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.recipient_reply = "450 later"
    await write_mail(db, MAIL)
    pauses = []
    for attempt in range(1, 9):
        assert await outbox.send_next() is False
        ((attempts, pause),) = await queued_mails(db)
        assert attempts == attempt
        pauses.append(pause)
        assert await outbox.send_next() is False, "the mail is not due yet"
        await db.execute("update outbox set due_at = now()")
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    server.recipient_reply = "250 OK"
    assert await outbox.send_next() is True
    assert len(server.envelopes) == 1
    assert [record.getMessage() for record in caplog.records if "delivery" in record.message] == [
        "mail delivery delayed: error=reply 450",
        "mail delivery resumed",
    ]


async def test_outbox_removes_a_permanently_rejected_mail(
    outbox: Outbox, server: MailServer, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    server.recipient_reply = "550 nobody"
    await write_mail(db, MAIL)
    assert await outbox.send_next() is True
    assert await queued_mails(db) == []
    assert "error=reply 550" in caplog.text and MAIL.recipient not in caplog.text


async def test_outbox_removes_a_mail_after_its_lifetime(
    outbox: Outbox, server: MailServer, db: asyncpg.Connection
) -> None:
    server.recipient_reply = "450 later"
    await write_mail(db, MAIL)
    for age, remaining in ((LIFETIME - 60, 1), (LIFETIME + 60, 0)):
        await db.execute(
            "update outbox set due_at = now(), created_at = now() - make_interval(secs => $1)", age
        )
        await outbox.send_next()
        assert len(await queued_mails(db)) == remaining


async def test_outbox_of_another_process_sends_the_mail_of_a_killed_process(
    database: Database, server: MailServer, db: asyncpg.Connection
) -> None:
    await write_mail(db, MAIL)
    server.gate.clear()
    killed = asyncio.create_task(outbox_of(database, server).send_next())
    await server.arrived.wait()
    other = outbox_of(database, server)
    assert await other.send_next() is False, "another process has claimed the mail"
    killed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await killed
    server.gate.set()
    ((_, pause),) = await queued_mails(db)
    assert 0 < pause <= PAUSE
    await db.execute("update outbox set due_at = now()")
    assert await other.send_next() is True
    assert await queued_mails(db) == []


async def test_concurrent_outboxes_send_each_mail_once(
    database: Database, server: MailServer, db: asyncpg.Connection
) -> None:
    for number in range(40):
        await write_mail(db, Mail(f"user{number}@example.test", "x", "y"))

    async def send_all() -> int:
        outbox, count = outbox_of(database, server), 0
        while await outbox.send_next():
            count += 1
        return count

    counts = await asyncio.gather(*(send_all() for _ in range(4)))
    recipients = [envelope.rcpt_tos[0] for envelope in server.envelopes]
    assert sum(counts) == 40
    assert sorted(recipients) == sorted(f"user{number}@example.test" for number in range(40))


async def test_outbox_finishes_the_current_mail_when_it_stops(
    outbox: Outbox, server: MailServer, db: asyncpg.Connection
) -> None:
    server.gate.clear()
    await write_mail(db, MAIL)
    outbox.start()
    await server.arrived.wait()
    stopping = asyncio.create_task(outbox.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    server.gate.set()
    await stopping
    assert len(server.envelopes) == 1
    assert await queued_mails(db) == []


async def test_outbox_continues_after_an_unexpected_error(
    outbox: Outbox, server: MailServer, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await write_mail(db, Mail("no email\n", "x", "y"))
    await db.execute("update outbox set due_at = due_at - interval '1 minute'")
    await write_mail(db, MAIL)
    outbox.start()
    await server.arrived.wait()
    await outbox.stop()
    assert len(server.envelopes) == 1
    assert "mail failed, retrying later" in caplog.text
