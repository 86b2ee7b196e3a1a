"""Helpers of tests that lock an account as an administrator."""

from dataclasses import replace
from functools import partial
from uuid import UUID

import asyncpg

import sql
from service.accounts.account_lock import lock_account, unlock_account
from service.database.change_listener import CHANGE_LISTENER
from service.database.pool import DATABASE
from service.http.client import Client as HttpClient
from tests.conftest import Client

ADMINISTRATOR = replace(HttpClient.at(""), actor="cli")
LOCKED = {"errors": {"account": ["is locked"]}, "code": "account_locked"}
LOCK_WITHOUT_SIDE_EFFECTS = "update users set locked_at = now()"
"""Only the guards that read the column reject what comes after this."""


async def id_of(db: asyncpg.Connection, name: str = "alice") -> UUID:
    user_id: UUID = await db.fetchval("select id from users where username = $1", name)
    return user_id


async def lock(client: Client, user_id: UUID) -> bool:
    """Lock an account, and wait until the service knows it. Return whether it was unlocked."""
    app = client.http.app
    assert app is not None
    is_new: bool = await app[DATABASE].transact(
        partial(lock_account, client=ADMINISTRATOR, user_id=user_id)
    )
    await app[CHANGE_LISTENER].wait_until_applied()
    return is_new


async def unlock(client: Client, user_id: UUID) -> bool:
    """Unlock an account. Return whether it was locked."""
    app = client.http.app
    assert app is not None
    was_locked: bool = await app[DATABASE].transact(
        partial(unlock_account, client=ADMINISTRATOR, user_id=user_id)
    )
    return was_locked


async def lock_uncommitted(db: asyncpg.Connection, user_id: UUID) -> None:
    """Lock an account in the open transaction of ``db``."""
    connection: sql.Connection = db
    assert await lock_account(connection, ADMINISTRATOR, user_id)


async def count_open_sessions(db: asyncpg.Connection) -> int:
    count: int = await db.fetchval("select count(*) from sessions where ended_at is null")
    return count


async def kinds_of_events(db: asyncpg.Connection) -> list[str]:
    """Return the kinds of all events, the oldest first."""
    return [row["kind"] for row in await db.fetch("select kind from events order by id")]
