"""A thief with a stolen access token guesses the password where it is a proof."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tests.accounts.locked_logins import (
    HOME,
    STRANGER,
    at,
    attempt,
    client_that_locks,
    register_alice,
)
from tests.accounts.logins import count_hashes
from tests.accounts.proofs import make_proofs_stale
from tests.conftest import Client, Device, MakeClient, Response

Guess = Callable[[Client, str, str, str], Awaitable[Response]]

SECRET = "alice-secret"


async def guess_by_reauthentication(
    client: Client, token: str, password: str, ip: str = STRANGER
) -> Response:
    body = {"password": password}
    return await client.post("/api/auth/reauthenticate", body, token=token, headers=at(ip))


async def guess_by_update(
    client: Client, token: str, password: str, ip: str = STRANGER
) -> Response:
    user = {"email": "thief@example.test", "current_password": password}
    return await client.put("/api/user", {"user": user}, token=token, headers=at(ip))


async def guess_by_deletion(
    client: Client, token: str, password: str, ip: str = STRANGER
) -> Response:
    user = {"password": password}
    return await client.delete("/api/user", {"user": user}, token=token, headers=at(ip))


GUESSES = [guess_by_reauthentication, guess_by_update, guess_by_deletion]


async def test_guesses_of_every_route_share_the_limits_of_logins(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(trusted_proxies=1)
    owner = await register_alice(client)
    await make_proofs_stale(client, db)
    statuses = [
        (await guess(client, owner.access, "wrong", STRANGER)).status for guess in GUESSES * 2
    ]
    assert statuses == [401] * 5 + [429]
    assert await attempt(client, SECRET) == 429
    for guess in GUESSES:
        assert (await guess(client, owner.access, SECRET, STRANGER)).status == 429
    # The owner is not locked out, and ends the session of the thief.
    device = Device.of(await guess_by_reauthentication(client, owner.access, SECRET, HOME))
    assert await attempt(client, SECRET, HOME) == 200
    assert not await client.is_authenticated(owner.access)
    assert await client.is_authenticated(device.access)


@pytest.mark.parametrize("guess", GUESSES)
async def test_locked_login_rejects_the_correct_password_of_a_thief_and_not_of_the_owner(
    make_client: MakeClient, db: asyncpg.Connection, guess: Guess
) -> None:
    client = await client_that_locks(make_client)
    owner = await register_alice(client)
    await make_proofs_stale(client, db)
    wrong = [await guess(client, owner.access, "wrong", STRANGER) for _ in range(5)]
    correct = await guess(client, owner.access, SECRET, STRANGER)
    assert {response.status for response in wrong} == {401}
    assert (correct.status, correct.body) == (401, wrong[0].body)
    assert (await guess(client, owner.access, SECRET, HOME)).status in (200, 204)


async def test_account_without_a_password_rejects_every_password_like_a_wrong_one(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await client.register("alice")
    wrong = await guess_by_reauthentication(client, token, "wrong")
    await db.execute("update users set password_hash = null")
    await make_proofs_stale(client, db)
    verified = count_hashes(client, monkeypatch)
    for guess in GUESSES:
        response = await guess(client, token, SECRET)
        assert (response.status, response.body) == (401, wrong.body)
    user = {"email": "alice@example.test", "password": SECRET}
    response = await client.post("/api/users/login", {"user": user})
    assert (response.status, response.body) == (401, wrong.body)
    # Each takes the time of a hash.
    assert len(verified) == 4
    # They count like wrong passwords.
    assert (await guess_by_reauthentication(client, token, SECRET)).status == 429
