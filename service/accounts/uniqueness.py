"""Unique usernames and emails: the check before a change, and the constraints that decide."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from uuid import UUID

import asyncpg

import sql
from service.database.pool import Database
from service.http.errors import Conflict

UNIQUE = {"users_username_key_key": "username", "users_email_key_key": "email"}


async def check_availability(
    database: Database, keys: Mapping[str, str | None], except_id: UUID | None = None
) -> None:
    """Raise ``Conflict`` with each field whose key a user other than ``except_id`` has."""
    if not any(keys.values()):
        return
    taken = await sql.uniqueness.taken(database, except_id=except_id, **keys)
    if fields_taken := [name for name in ("email", "username") if taken[name]]:
        raise Conflict(*fields_taken)


@contextlib.asynccontextmanager
async def map_unique_violations(
    database: Database, keys: Mapping[str, str | None], except_id: UUID | None = None
) -> AsyncIterator[None]:
    """Raise ``Conflict`` when the statements inside violate a unique constraint of ``users``.

    PostgreSQL reports the first violated constraint. Look up ``keys`` to report both fields.
    """
    try:
        yield
    except asyncpg.UniqueViolationError as violation:
        await check_availability(database, keys, except_id)
        raise Conflict(UNIQUE[violation.constraint_name]) from None
