"""Fixtures for the throttling modules without the rest of the service."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.accounts.throttling.login_attempts import LoginAttempts
from service.database.pool import Database
from service.settings.settings import Settings


@pytest.fixture
async def database(db: asyncpg.Connection, database_url: str) -> AsyncIterator[Database]:
    """Open a pool of the database, without the rest of the service."""
    database = Database(database_url, 5)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def attempts(database: Database) -> LoginAttempts:
    """Return the login attempts under the default limits."""
    return LoginAttempts(database, Settings())
