"""Helpers of tests that act as an administrator."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from service.database.change_listener import CHANGE_LISTENER
from service.database.pool import DATABASE, Database
from tests.accounts.account_locks import ADMINISTRATOR
from tests.conftest import Client

_Result = TypeVar("_Result")


def database_of(client: Client) -> Database:
    """Return the database of the service."""
    assert client.http.app is not None
    database: Database = client.http.app[DATABASE]
    return database


async def act(
    client: Client, action: Callable[..., Awaitable[_Result]], *arguments: Any, **options: Any
) -> _Result:
    """Run ``action`` as an administrator, in one transaction, until the service knows it."""

    async def run(connection: asyncpg.Connection) -> _Result:
        return await action(connection, ADMINISTRATOR, *arguments, **options)

    result = await database_of(client).transact(run)
    assert client.http.app is not None
    await client.http.app[CHANGE_LISTENER].wait_until_applied()
    return result
