"""API keys: their creation, their storage, and the scopes of the routes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from service.accounts.administration.api_keys import (
    ApiKeyError,
    Scope,
    create_key,
    list_keys,
    revoke_key,
)
from service.app import ROUTES
from service.database.pool import Database


@pytest.fixture
async def database(db: asyncpg.Connection, database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, size=5)
    await database.open()
    yield database
    await database.close()


async def test_key_is_stored_only_as_a_digest(database: Database, db: asyncpg.Connection) -> None:
    plain = await create_key(database, "backoffice", ["users:write", "users:read", "users:read"])
    assert len(plain.removeprefix("conduit_key_")) == 43
    row = await db.fetchrow("select * from api_keys")
    assert row is not None
    assert plain.removeprefix("conduit_key_") not in str(dict(row))
    assert (row["name"], row["scopes"]) == ("backoffice", ["users:read", "users:write"])
    (listed,) = await list_keys(database)
    assert set(listed.keys()) == {"name", "scopes", "created_at", "last_used_at", "revoked_at"}


@pytest.mark.parametrize(
    "name", ["", "cli", "Backoffice", "a b", "-a", "a" * 51, "a\n", "é", "a\0", "a;b"]
)
async def test_name_of_a_key_is_bounded(database: Database, name: str) -> None:
    with pytest.raises(ApiKeyError, match="The name of a key consists of"):
        await create_key(database, name, ["users:read"])


async def test_unknown_scope_is_rejected_with_the_known_ones(database: Database) -> None:
    with pytest.raises(ApiKeyError, match="no scope 'users:all'.*users:read, users:write"):
        await create_key(database, "backoffice", ["users:read", "users:all"])
    with pytest.raises(ApiKeyError, match="at least one scope"):
        await create_key(database, "backoffice", [])


async def test_name_of_a_revoked_key_is_not_used_again(database: Database) -> None:
    await create_key(database, "backoffice", ["users:read"])
    assert await revoke_key(database, "other") is None
    assert await revoke_key(database, "backoffice") is True
    assert await revoke_key(database, "backoffice") is False
    with pytest.raises(ApiKeyError, match="backoffice already"):
        await create_key(database, "backoffice", ["users:read"])


def test_scopes_of_the_routes_are_known() -> None:
    operations = [route.handler.operation for table in ROUTES for route in table]  # type: ignore[attr-defined]
    assert {operation.scope for operation in operations} - {None} <= set(Scope)


def test_operations_page_lists_every_scope_with_its_meaning() -> None:
    page = Path("docs/operations.md").read_text(encoding="utf-8")
    for scope in Scope:
        assert f"| `{scope}` | {scope.meaning} |" in page


async def test_of_simultaneous_keys_with_one_name_one_is_created(database: Database) -> None:
    results = await asyncio.gather(
        *(create_key(database, "backoffice", ["users:read"]) for _ in range(5)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["ApiKeyError"] * 4 + ["str"]
