"""Test that the outbox keeps a mail until a server accepts it, and sends no mail too often."""

import asyncio
import logging
from typing import Any

import asyncpg
import pytest

import sql
from service.database.pool import Database
from service.mail import outbox as module
from service.mail.message import Mail
from service.mail.outbox import CONCURRENCY, LEASE, LIFETIME, Outbox, write_mail
from tests.mail.mail_server import MailServer, serve_mail
from tests.mail.outboxes import MAIL, mail_to, make_due, outbox_of, rows, send_next


async def seconds_until_due(db: asyncpg.Connection) -> int:
    """Return the seconds until the next attempt of the only mail."""
    return int(await db.fetchval("select extract(epoch from due_at - now()) + 0.5 from outbox"))


async def test_outbox_sends_a_committed_mail_once_and_a_rolled_back_mail_never(
    database: Database, outbox: Outbox, server: MailServer, db: asyncpg.Connection
) -> None:
    async def write_and_fail(connection: asyncpg.Connection) -> None:
        await write_mail(connection, mail_to("bob@example.test"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.transact(write_and_fail)
    await write_mail(db, MAIL)
    assert [await send_next(outbox) for _ in range(3)] == [True, False, False]
    assert [envelope.rcpt_tos for envelope in server.envelopes] == [[MAIL.recipient]]


async def test_row_of_a_sent_mail_keeps_neither_recipient_nor_values(
    outbox: Outbox, server: MailServer, db: asyncpg.Connection
) -> None:
    await write_mail(db, MAIL)
    assert await send_next(outbox)
    assert "192.0.2.1" in str(server.mails[0])
    row = await db.fetchrow("select state, recipient, values, error, finished_at from outbox")
    assert tuple(row)[:4] == ("sent", "", "{}", None)
    assert row["finished_at"] is not None


async def test_outbox_doubles_the_pause_after_each_temporary_error(
    outbox: Outbox, server: MailServer, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.recipient_reply = "450 later"
    await write_mail(db, MAIL)
    pauses = []
    for attempt in range(1, 13):
        assert await send_next(outbox)
        assert await rows(db) == [("pending", attempt, "reply 450")]
        pauses.append(await seconds_until_due(db))
        assert not await send_next(outbox), "the mail is not due yet"
        await make_due(db)
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
    server.recipient_reply = "250 OK"
    assert await send_next(outbox)
    assert len(server.envelopes) == 1
    assert await rows(db) == [("sent", 13, None)]
    (row,) = await db.fetch("select id from outbox")
    assert {record.getMessage() for record in caplog.records if record.name == module.__name__} == {
        f"mail postponed: id={row['id']} error=reply 450"
    }


async def test_outbox_keeps_a_permanently_rejected_mail_and_does_not_send_it_again(
    outbox: Outbox, server: MailServer, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    server.recipient_reply = "550 nobody"
    await write_mail(db, MAIL)
    assert await send_next(outbox)
    await make_due(db)
    assert not await send_next(outbox)
    assert await rows(db) == [("refused", 1, "reply 550")]
    assert await db.fetchval("select recipient from outbox") == MAIL.recipient
    assert "error=reply 550" in caplog.text and MAIL.recipient not in caplog.text


async def test_outbox_gives_up_a_mail_after_its_lifetime(
    outbox: Outbox, server: MailServer, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    server.recipient_reply = "450 later"
    await write_mail(db, MAIL)
    states = [
        (LIFETIME - 60, ("pending", 1, "reply 450")),
        (LIFETIME + 60, ("refused", 2, "given up: reply 450")),
    ]
    for age, expected in states:
        await make_due(db)
        await db.execute("update outbox set created_at = now() - make_interval(secs => $1)", age)
        await send_next(outbox)
        assert await rows(db) == [expected]
    assert "mail given up after days of attempts: id=" in caplog.text


async def test_mails_stay_due_while_the_server_is_unreachable(
    database: Database, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """Their own pauses do not grow: all of them are sent when the server is back."""
    caplog.set_level(logging.INFO)
    async with serve_mail(MailServer()) as server:
        pass
    outbox = outbox_of(database, server)
    for number in range(3):
        await write_mail(db, mail_to(f"user{number}@example.test"))
    for _ in range(9):
        assert await send_next(outbox)
    assert [row[:2] for row in await rows(db)] == [("pending", 0)] * 3
    async with serve_mail(server):
        assert [await send_next(outbox) for _ in range(4)] == [True, True, True, False]
    assert len(server.envelopes) == 3
    messages = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    assert len(messages) == 2
    assert messages[0].startswith("mail delivery delayed: error=SMTPConnectError")
    assert messages[1] == "mail delivery resumed"


async def test_outbox_pauses_longer_after_each_failure_to_reach_the_server(
    database: Database, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused connection must not be a busy loop."""
    async with serve_mail(MailServer()) as server:
        pass
    outbox = outbox_of(database, server)
    now = 1000.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    await write_mail(db, MAIL)
    pauses = []
    for _ in range(7):
        await send_next(outbox)
        await send_next(outbox)  # One that was running when the first one failed.
        pauses.append(outbox.outage_pause_ends - now)
        now = outbox.outage_pause_ends
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


async def test_outbox_of_another_process_sends_the_mail_of_a_killed_process(
    database: Database, server: MailServer, db: asyncpg.Connection
) -> None:
    await write_mail(db, MAIL)
    server.gate.clear()
    killed = asyncio.create_task(send_next(outbox_of(database, server)))
    await server.arrived.wait()
    other = outbox_of(database, server)
    assert not await send_next(other), "another process has claimed the mail"
    killed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await killed
    server.gate.set()
    assert 0 < await seconds_until_due(db) <= LEASE
    await make_due(db)
    assert await send_next(other)
    assert await rows(db) == [("sent", 2, None)]


async def test_attempt_whose_lease_expired_does_not_postpone_the_next_one(
    database: Database, server: MailServer, db: asyncpg.Connection
) -> None:
    slow, other = outbox_of(database, server), outbox_of(database, server)
    await write_mail(db, MAIL)
    row = await slow.claim()
    await make_due(db)
    assert await other.claim() is not None
    server.recipient_reply = "450 later"
    await slow.deliver(row)
    assert LEASE - 5 < await seconds_until_due(db) <= LEASE


async def test_concurrent_outboxes_send_each_mail_once(
    database: Database, server: MailServer, db: asyncpg.Connection
) -> None:
    for number in range(40):
        await write_mail(db, mail_to(f"user{number}@example.test"))

    async def send_all() -> int:
        outbox, count = outbox_of(database, server), 0
        while await send_next(outbox):
            count += 1
        return count

    counts = await asyncio.gather(*(send_all() for _ in range(4)))
    recipients = [envelope.rcpt_tos[0] for envelope in server.envelopes]
    assert sum(counts) == 40
    assert sorted(recipients) == sorted(f"user{number}@example.test" for number in range(40))


async def test_claim_sorts_no_mails_when_many_are_due_at_the_same_time(
    db: asyncpg.Connection,
) -> None:
    await db.execute(
        "insert into outbox (recipient, template, language, values)"
        " select 'user' || number || '@example.test', 'lockout', 'en', '{}'"
        " from generate_series(1, 2000) as number"
    )
    await db.execute("analyze outbox")
    explained = f"explain {sql.NAMESPACES['outbox'].claim.text}"
    plan = [row[0] for row in await db.fetch(explained, LEASE, LIFETIME)]
    assert any("using outbox_due_at_idx" in line for line in plan), plan
    assert not any("Sort" in line for line in plan), plan


async def test_outbox_finishes_the_current_mails_when_it_stops_and_begins_no_other(
    outbox: Outbox, server: MailServer, db: asyncpg.Connection
) -> None:
    server.gate.clear()
    for number in range(CONCURRENCY + 1):
        await write_mail(db, mail_to(f"user{number}@example.test"))
    outbox.start()
    for _ in range(CONCURRENCY):
        await server.recipients.get()
    stopping = asyncio.create_task(outbox.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    server.gate.set()
    await stopping
    assert len(server.envelopes) == CONCURRENCY
    assert sorted(await rows(db)) == [("pending", 0, None)] + [("sent", 1, None)] * CONCURRENCY


@pytest.mark.parametrize(
    "faulty",
    [mail_to("no email\n"), Mail("bob@example.test", "unknown", "en", {})],
    ids=["recipient", "template"],
)
async def test_outbox_continues_after_an_unexpected_error(
    outbox: Outbox,
    server: MailServer,
    db: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
    faulty: Any,
) -> None:
    await write_mail(db, faulty)
    await db.execute("update outbox set due_at = due_at - interval '1 minute'")
    await write_mail(db, MAIL)
    outbox.start()
    await server.arrived.wait()
    await outbox.stop()
    assert len(server.envelopes) == 1
    assert "mail failed, retrying later: id=" in caplog.text
    assert [row[:2] for row in await rows(db)] == [("pending", 1), ("sent", 1)]
