"""Failures in a row of both factors lock a login. Only both factors together reset them."""

import asyncpg
import pytest

from tests.accounts.locked_logins import STRANGER, at, client_that_locks, count_mails, fail
from tests.accounts.two_factor.authenticator_app import (
    AuthenticatorApp,
    challenge_of,
    first_step,
    second_step,
)
from tests.conftest import Client, Device, MakeClient
from tests.responses import assert_error

INVALID = {"credentials": ["invalid"]}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    """Return a client of a service that locks a login after five failures in a row."""
    return await client_that_locks(make_client)


async def test_right_password_without_the_code_resets_no_failures_in_a_row(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    await fail(client, 3)
    challenge = await challenge_of(client)
    for _ in range(2):
        response = await second_step(client, challenge, app.wrong_code(), headers=at(STRANGER))
        assert_error(response, 401, "code_invalid", {"code": ["is invalid"]})
    assert await count_mails(db) == 1
    locked = await first_step(client, headers=at(STRANGER))
    assert_error(locked, 401, "invalid_credentials", INVALID)
    # The challenge from before the lock is dead.
    response = await second_step(client, challenge, app.next_code(), headers=at(STRANGER))
    assert_error(response, 401, "challenge_invalid", {"challenge": ["is invalid"]})


async def test_both_factors_reset_the_failures_in_a_row(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    for _ in range(2):
        await fail(client, 4)
        challenge = await challenge_of(client)
        response = await second_step(client, challenge, app.next_code(), headers=at(STRANGER))
        assert response.status == 200
        await db.execute("delete from known_ips where ip_key = $1", STRANGER)
    assert await count_mails(db) == 0
