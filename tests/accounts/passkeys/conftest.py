"""Fixtures: two users with verified emails."""

import asyncpg
import pytest

from tests.accounts.passkeys.passkeys import open_verified_account
from tests.conftest import Client


@pytest.fixture
async def alice(client: Client, db: asyncpg.Connection) -> str:
    """Register Alice with a verified email, and return the token."""
    return (await open_verified_account(client, db, "alice")).access


@pytest.fixture
async def bob(client: Client, db: asyncpg.Connection) -> str:
    """Register Bob with a verified email, and return the token."""
    return (await open_verified_account(client, db, "bob")).access
