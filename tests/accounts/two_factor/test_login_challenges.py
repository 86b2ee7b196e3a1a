"""What ends an open challenge, and simultaneous uses of challenges and codes."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest
from aiohttp import web

import sql
from service.accounts.sessions.authentication_methods import PASSWORD as METHODS
from service.accounts.sign_in import SIGN_IN
from service.database.pool import DATABASE
from service.http.client import Client as HttpClient
from service.http.errors import Unauthorized
from tests.accounts.mailed_links import client_without_delivery
from tests.accounts.two_factor.authenticator_app import (
    PASSWORD,
    TWO_FACTOR,
    AuthenticatorApp,
    challenge_of,
    first_step,
    reauthenticate,
    second_step,
    turn_on,
)
from tests.conftest import Client, Device, MakeClient
from tests.responses import assert_error


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client, trusted_proxies=1)


def at(ip: str) -> dict[str, str]:
    return {"X-Forwarded-For": ip}


async def count_sessions(db: asyncpg.Connection) -> int:
    return int(await db.fetchval("select count(*) from sessions where ended_at is null"))


async def lock_out(client: Client, enrolled: Device, app: AuthenticatorApp) -> None:
    for _ in range(5):
        await first_step(client, "wrong", headers=at("203.0.113.1"))


async def change_password(client: Client, enrolled: Device, app: AuthenticatorApp) -> None:
    here = await reauthenticate(client, enrolled, app)
    user = {"user": {"password": "another secret"}}
    assert (await client.put("/api/user", user, token=here.access)).status == 200


async def remove_factor(client: Client, enrolled: Device, app: AuthenticatorApp) -> None:
    here = await reauthenticate(client, enrolled, app)
    body = {"password": PASSWORD, "code": app.next_code()}
    assert (await client.delete(TWO_FACTOR, body, token=here.access)).status == 204


async def end_others(client: Client, enrolled: Device, app: AuthenticatorApp) -> None:
    assert (await client.delete("/api/user/sessions", token=enrolled.access)).status == 204


async def delete_account(client: Client, enrolled: Device, app: AuthenticatorApp) -> None:
    here = await reauthenticate(client, enrolled, app)
    body = {"user": {"password": PASSWORD}}
    assert (await client.delete("/api/user", body, token=here.access)).status == 204


@pytest.mark.parametrize(
    "end", [lock_out, change_password, remove_factor, end_others, delete_account]
)
async def test_open_challenges_end(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection, end: Any
) -> None:
    challenge = await challenge_of(client)
    await end(client, enrolled, app)
    response = await second_step(client, challenge, app.next_code())
    assert_error(response, 401, "challenge_invalid", {"challenge": ["is invalid"]})


async def test_one_code_opens_one_session_with_many_challenges(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    challenges = [await challenge_of(client) for _ in range(10)]
    code = app.next_code()
    steps = (
        second_step(client, challenge, code, headers=at(f"203.0.113.{number}"))
        for number, challenge in enumerate(challenges)
    )
    statuses = Counter([response.status for response in await asyncio.gather(*steps)])
    assert statuses == {200: 1, 401: 9}
    assert await count_sessions(db) == 2


async def test_one_challenge_opens_one_session_with_many_codes(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    challenge = await challenge_of(client)
    codes = [app.next_code(), *app.recovery_codes] * 5
    steps = (
        second_step(client, challenge, code, headers=at(f"203.0.113.{number}"))
        for number, code in enumerate(codes[:50])
    )
    statuses = Counter([response.status for response in await asyncio.gather(*steps)])
    assert statuses[200] == 1 and set(statuses) <= {200, 401}
    assert await count_sessions(db) == 2


async def test_login_that_began_before_the_factor_was_turned_on_opens_no_session(
    client: Client, device: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    """The password is verified before, and the session would be opened after."""
    service: web.Application = client.http.app
    user_id = await db.fetchval("select id from users")
    row = await sql.users.find_credentials(service[DATABASE], id=user_id)
    await turn_on(client, device, app)
    with pytest.raises(Unauthorized):
        await service[SIGN_IN].finish(HttpClient.at("203.0.113.1"), row, METHODS)
    assert await count_sessions(db) == 1
