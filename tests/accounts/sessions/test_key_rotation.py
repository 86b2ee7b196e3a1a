"""Replace the keys of access tokens, delete old ones, and encrypt them again."""

import asyncpg
import pytest

from service.accounts.cleanup import clean_up
from service.accounts.encryption import Encryption
from service.accounts.sessions.key_rotation import MARGIN, MAX_KEYS, RotationError, reencrypt
from service.accounts.sessions.signing_keys import decrypt
from service.database.pool import DATABASE
from tests.accounts.sessions.keys_of_tokens import current_key, rotate_keys
from tests.conftest import SETTINGS, Client, MakeClient

AGE = "update signing_keys set signs_at = signs_at - make_interval(secs => $1)"
IDS = "select id::text from signing_keys order by signs_at"


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client(token_algorithm="ES256", access_token_ttl=1000)


async def ids(db: asyncpg.Connection) -> list[str]:
    return [row["id"] for row in await db.fetch(IDS)]


async def test_rotation_is_refused_while_a_key_waits_to_sign(client: Client) -> None:
    rotation = await rotate_keys(client, "ES256")
    with pytest.raises(RotationError, match=f"{rotation.key_id} is new: it signs in 600 seconds"):
        await rotate_keys(client, "ES256")


async def test_number_of_keys_is_bounded(client: Client, db: asyncpg.Connection) -> None:
    for _ in range(MAX_KEYS - 1):
        await rotate_keys(client, "ES256")
        await db.execute(AGE, 601.0)
    with pytest.raises(RotationError, match="20 keys"):
        await rotate_keys(client, "ES256")
    assert (await rotate_keys(client, "ES256", revoke_old=True)).removed == MAX_KEYS
    assert len(await ids(db)) == 1


async def test_key_is_deleted_after_its_last_token_has_expired(
    client: Client, db: asyncpg.Connection
) -> None:
    first = current_key(client).id
    second = str((await rotate_keys(client, "EdDSA")).key_id)
    app = client.http.app
    assert app is not None

    async def kept() -> list[str]:
        await clean_up(app[DATABASE], client.settings)
        return await ids(db)

    await db.execute(AGE, 600.0 + 1000 + MARGIN - 60)
    assert await kept() == [first, second]
    await db.execute(AGE, 61.0)
    assert await kept() == [second]
    await db.execute(AGE, 1e6)
    assert await kept() == [second]


async def test_reencrypt_replaces_only_what_an_old_key_has_encrypted(
    client: Client, db: asyncpg.Connection
) -> None:
    database = client.http.app[DATABASE]
    (old,) = SETTINGS["encryption_keys"]
    new = "the next key encrypts, 32 bytes and more"
    assert await reencrypt(database, Encryption([new])) == (0, 1)
    assert await reencrypt(database, Encryption([old])) == (0, 0)
    assert await reencrypt(database, Encryption([new, old])) == (1, 0)
    assert await reencrypt(database, Encryption([new, old])) == (0, 0)
    row = await db.fetchrow("select id, private_key from signing_keys")
    decrypt(Encryption([new]), row["private_key"], row["id"])
