"""Sessions whose proof is too old."""

from collections.abc import Collection

import asyncpg

from service.accounts.sessions.authentication_methods import Method
from service.database.change_listener import CHANGE_LISTENER
from tests.conftest import Client

REQUIRES_PROOF = {
    "errors": {"session": ["requires reauthentication"]},
    "code": "reauthentication_required",
    "methods": ["password"],
}


async def make_proofs_stale(client: Client, db: asyncpg.Connection) -> None:
    """Make the proof of every session an hour old, and wait until the service knows it."""
    await set_age_of_proofs(client, db, 3600)


async def set_age_of_proofs(client: Client, db: asyncpg.Connection, age: int) -> None:
    """Set the age of the proof of every session in seconds, and wait until the service knows it."""
    await db.execute(
        "update sessions set auth_time = now() - make_interval(secs => $1::integer)", age
    )
    await _wait_until_known(client)


async def set_methods_of_proofs(
    client: Client, db: asyncpg.Connection, methods: Collection[Method]
) -> None:
    """Set the methods of the proof of every session, and wait until the service knows it."""
    await db.execute("update sessions set amr = $1", list(methods))
    await _wait_until_known(client)


async def _wait_until_known(client: Client) -> None:
    app = client.http.app
    assert app is not None
    await app[CHANGE_LISTENER].wait_until_applied()
