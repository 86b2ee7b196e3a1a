"""The last way to sign in."""

from uuid import UUID

import asyncpg
import pytest

from service.accounts.sign_in_methods import LastSignInMethod, require_sign_in_method
from tests.conftest import Client

INSERT = """
    insert into passkeys (user_id, credential_id, public_key, sign_count, transports, name)
    values ($1, 'x', 'x', 0, '{}', 'x')
"""


async def user_id_of(client: Client, db: asyncpg.Connection, name: str) -> UUID:
    """Register a user and return the id."""
    await client.register(name)
    user_id: UUID = await db.fetchval("select id from users where username = $1", name)
    return user_id


async def test_password_is_a_way_to_sign_in(client: Client, db: asyncpg.Connection) -> None:
    await require_sign_in_method(db, await user_id_of(client, db, "alice"), "passkey", [])


async def test_passkey_is_a_way_to_sign_in(client: Client, db: asyncpg.Connection) -> None:
    user_id = await user_id_of(client, db, "alice")
    await db.execute(INSERT, user_id)
    await db.execute("update users set password_hash = null")
    await require_sign_in_method(db, user_id, "passkey", [])


async def test_passkey_of_another_user_is_no_way_to_sign_in(
    client: Client, db: asyncpg.Connection
) -> None:
    user_id = await user_id_of(client, db, "alice")
    await db.execute(INSERT, await user_id_of(client, db, "bob"))
    await db.execute("update users set password_hash = null")
    with pytest.raises(LastSignInMethod) as raised:
        await require_sign_in_method(db, user_id, "identity", [])
    assert raised.value.errors == {"identity": ["is the only way to log in"]}
