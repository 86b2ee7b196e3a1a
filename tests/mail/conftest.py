"""Fixtures: a mail server, and an outbox that sends to it."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.database.pool import Database
from service.mail.outbox import Outbox
from tests.mail.mail_server import MailServer, serve_mail
from tests.mail.outboxes import outbox_of


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
def outbox(database: Database, server: MailServer) -> Outbox:
    """Return an outbox whose background task is not started."""
    return outbox_of(database, server)
