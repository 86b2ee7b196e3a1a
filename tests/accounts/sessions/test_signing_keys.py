"""The keys of access tokens: their rotation and removal, in several processes."""

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from service.accounts.sessions.signing_keys import SIGNING_KEYS, KeyRing, SigningKey
from service.database.change_listener import CHANGE_LISTENER
from service.http.errors import Unavailable
from tests.accounts.sessions.keys_of_tokens import (
    ALGORITHMS,
    current_key,
    header_of,
    rotate_keys,
    until_keys_are,
)
from tests.accounts.two_instances import wait_until_trusted
from tests.conftest import Client, MakeClient, until_blocked
from tests.responses import assert_error

COUNT = "select count(*) from signing_keys"
OTHER_KEY = "another key encrypts, 32 bytes and more"


@pytest.fixture(params=ALGORITHMS)
async def clients(
    make_client: MakeClient, request: pytest.FixtureRequest
) -> tuple[str, Client, Client]:
    """Return an algorithm, and two processes that use it and trust their cache."""
    algorithm = str(request.param)
    first, second = [
        await wait_until_trusted(await make_client(token_algorithm=algorithm, user_cache_size=100))
        for _ in range(2)
    ]
    return algorithm, first, second


async def test_processes_that_start_together_use_one_key(
    make_client: MakeClient, db: asyncpg.Connection, database_url: str
) -> None:
    blocker = await asyncpg.connect(database_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("lock table signing_keys in row exclusive mode")
    starts = [asyncio.ensure_future(make_client(token_algorithm="ES256")) for _ in range(3)]
    await until_blocked(db, 3)
    await transaction.rollback()
    await blocker.close()
    clients = await asyncio.gather(*starts)
    assert await db.fetchval(COUNT) == 1
    assert len({current_key(client).id for client in clients}) == 1


async def test_new_key_is_published_in_every_process_before_it_signs(
    clients: tuple[str, Client, Client],
) -> None:
    algorithm, first, second = clients
    old = current_key(first).id
    rotation = await rotate_keys(first, algorithm)
    assert rotation.signs_in == 600
    for client in (first, second):
        keys = await until_keys_are(client, 2)
        assert [key["kid"] for key in keys] == [str(rotation.key_id), old]
        assert current_key(client).id == old


async def test_rotation_signs_out_nobody(
    clients: tuple[str, Client, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm, first, second = clients
    token = await first.register("alice")
    monkeypatch.setattr("service.accounts.sessions.signing_keys.PUBLISH_SECONDS", 0)
    rotation = await rotate_keys(first, algorithm)
    for client in (first, second):
        await until_keys_are(client, 2)
        response = await client.get("/api/user", token=token)
        assert response.status == 200
        assert header_of(response.body["user"]["token"])["kid"] == str(rotation.key_id)


async def test_token_of_a_removed_key_is_rejected_also_where_it_was_verified_before(
    clients: tuple[str, Client, Client],
) -> None:
    algorithm, first, second = clients
    device = await first.open_account("alice")
    for client in (first, second):
        assert await client.is_authenticated(device.access)
    rotation = await rotate_keys(first, algorithm, revoke_old=True)
    assert (rotation.removed, rotation.signs_in) == (1, 0)
    for client in (first, second):
        app = client.http.app
        assert app is not None
        await app[CHANGE_LISTENER].wait_until_applied()
        await app[SIGNING_KEYS].load()
        response = await client.get("/api/user", token=device.access)
        assert_error(response, 401, "token_invalid", {"token": ["is invalid"]})
    # The session is still open.
    response = await second.refresh(device.refresh)
    assert await first.is_authenticated(response.body["access_token"])


async def test_process_hears_of_a_removed_key_by_a_notification(
    clients: tuple[str, Client, Client],
) -> None:
    algorithm, first, second = clients
    token = await first.register("alice")
    assert await second.is_authenticated(token)
    await rotate_keys(first, algorithm, revoke_old=True)
    async with asyncio.timeout(20):
        while await second.is_authenticated(token):
            pass


async def test_token_of_a_new_key_is_accepted_without_a_notification(
    make_client: MakeClient,
) -> None:
    first = await make_client(token_algorithm="HS256", user_cache_size=0)
    second = await make_client(token_algorithm="ES256", user_cache_size=0)
    assert await first.is_authenticated(await second.register("alice"))


async def test_process_without_the_encryption_key_adds_its_own_key(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the cache no notification arrives.
    monkeypatch.setattr("service.accounts.sessions.signing_keys.MIN_RELOAD_INTERVAL", 0.0)
    first = await make_client(token_algorithm="EdDSA")
    with caplog.at_level(logging.ERROR):
        second = await make_client(token_algorithm="EdDSA", encryption_keys=(OTHER_KEY,))
    old = current_key(first).id
    message = f"signing key cannot be read: kid={old} error=no key of ENCRYPTION_KEYS has the id "
    # The first process may have heard of the other key before.
    assert any(each.startswith(message) for each in caplog.messages)
    tokens = [await first.register("alice"), await second.register("bob")]
    assert header_of(tokens[0])["kid"] == old != header_of(tokens[1])["kid"]
    for client in (first, second):
        for token in tokens:
            assert await client.is_authenticated(token)


async def test_simultaneous_reads_of_the_keys_run_one_after_the_other(
    make_client: MakeClient, db: asyncpg.Connection, database_url: str
) -> None:
    """Otherwise an older result could revive a removed key."""
    client = await make_client(token_algorithm="ES256")
    app = client.http.app
    assert app is not None
    keys = app[SIGNING_KEYS]
    (removed,) = keys.ring.keys
    blocker = await asyncpg.connect(database_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("lock table signing_keys in access exclusive mode")
    reads = [asyncio.create_task(keys.load()) for _ in range(2)]
    await until_blocked(db, 1)
    assert keys._lock.locked()
    await blocker.execute("delete from signing_keys")
    await transaction.commit()
    await blocker.close()
    await asyncio.gather(*reads)
    # The service may have added another key by now.
    assert removed not in keys.ring.keys


def key(signs_in: float, private: Any = object()) -> SigningKey:  # noqa: B008
    public: Any = None
    return SigningKey(str(uuid4()), "ES256", public, private, time.monotonic() + signs_in)


def test_newest_key_whose_time_has_come_signs() -> None:
    ring = KeyRing()
    future, current, old = key(1000), key(-1), key(-1000)
    ring.replace([future, current, old])
    assert ring.current() is current
    ring.replace([future, replace(current, private=None), old])
    assert ring.current() is old
    ring.replace([future])
    assert ring.current() is future


def test_ring_without_a_key_that_signs_is_unavailable() -> None:
    ring = KeyRing()
    assert not ring.can_sign
    ring.replace([key(-1, None)])
    with pytest.raises(Unavailable):
        ring.current()
