"""Confirm the secret of a second factor with a code."""

from typing import Any

import asyncpg
import pytest

from tests.accounts.mailed_links import client_without_delivery
from tests.accounts.two_factor.authenticator_app import (
    CODES,
    CONFIRM,
    TWO_FACTOR,
    AuthenticatorApp,
    begin,
    challenge_of,
    second_step,
    turn_on,
    verify_email,
)
from tests.conftest import Client, Device, MakeClient
from tests.responses import assert_error

WRONG_CODES: dict[str, Any] = {
    "nine digits": "000123456",
    "arabic digits": "١٢٣٤٥٦",
    "spaces": "      ",
    "integer": 123456,
    "null": None,
}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


async def is_on(db: asyncpg.Connection) -> bool:
    return bool(await db.fetchval("select two_factor_since is not null from users"))


async def test_confirmation_without_an_enrolment_is_not_found(
    client: Client, device: Device
) -> None:
    response = await client.post(CONFIRM, {"code": "123456"}, token=device.access)
    assert_error(response, 404, "not_found", {"two_factor": ["not found"]})


async def test_confirmation_with_a_wrong_code_changes_nothing(
    client: Client, device: Device, app: AuthenticatorApp
) -> None:
    await begin(client, device, app)
    response = await client.post(CONFIRM, {"code": app.wrong_code()}, token=device.access)
    assert_error(response, 401, "code_invalid", {"code": ["is invalid"]})
    status = (await client.get(TWO_FACTOR, token=device.access)).body["two_factor"]
    assert not status["enabled"]


async def test_code_that_confirmed_the_enrolment_cannot_log_in(
    client: Client, enrolled: Device, app: AuthenticatorApp
) -> None:
    for drift in (0, -1):
        response = await second_step(client, await challenge_of(client), app.code(drift))
        assert_error(response, 401, "code_invalid", {"code": ["is invalid"]})
    assert (await second_step(client, await challenge_of(client), app.next_code())).status == 200


@pytest.mark.parametrize("code", WRONG_CODES.values(), ids=WRONG_CODES)
async def test_what_cannot_be_a_code_is_rejected_and_counted(
    client: Client, device: Device, app: AuthenticatorApp, db: asyncpg.Connection, code: Any
) -> None:
    await begin(client, device, app)
    response = await client.post(CONFIRM, {"code": code}, token=device.access)
    assert_error(response, 401, "code_invalid", {"code": ["is invalid"]})
    failed = "select count(*) from events where kind = 'two_factor_failed'"
    assert await db.fetchval(failed) == 1


async def test_stolen_token_cannot_guess_the_code_of_a_secret_that_waits(
    client: Client, device: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    """The response has the recovery codes, and the other sessions of the owner end."""
    await begin(client, device, app)
    body = {"code": app.wrong_code()}
    statuses = [(await client.post(CONFIRM, body, token=device.access)).status for _ in range(6)]
    assert statuses == [401, 401, 401, 401, 401, 429]
    response = await client.post(CONFIRM, {"code": app.code()}, token=device.access)
    assert response.status == 429
    assert not await is_on(db)


async def test_secret_waits_an_hour_for_its_code(
    client: Client, device: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    await begin(client, device, app)
    await db.execute("update totp_secrets set created_at = now() - interval '61 minutes'")
    response = await client.post(CONFIRM, {"code": app.code()}, token=device.access)
    assert_error(response, 404, "not_found", {"two_factor": ["not found"]})
    await begin(client, device, app)
    assert (await client.post(CONFIRM, {"code": app.code()}, token=device.access)).status == 200


async def test_email_must_still_be_verified(
    make_client: MakeClient, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    """The strict dialect changes an email at once. Its owner must be able to log in."""
    client = await client_without_delivery(make_client, realworld_strict=True)
    device = await client.open_account("alice")
    await verify_email(db)
    await begin(client, device, app)
    user = {"user": {"email": "victim@example.test"}}
    assert (await client.put("/api/user", user, token=device.access)).status == 200
    response = await client.post(CONFIRM, {"code": app.code()}, token=device.access)
    assert (response.status, response.body["code"]) == (403, "email_not_verified")
    assert not await is_on(db)


async def test_session_that_turns_the_factor_on_has_proved_it(
    client: Client, device: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    before = await db.fetchval("select auth_time from sessions")
    await turn_on(client, device, app)
    session = await db.fetchrow("select amr, auth_time from sessions")
    assert (session["amr"], session["auth_time"]) == (["pwd", "otp", "mfa"], before)
    assert (await client.post(CODES, {}, token=device.access)).status == 200


async def test_ip_addresses_where_a_thief_logged_in_are_no_longer_known(
    client: Client, device: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    """The limits of the account do not apply at a known IP address."""
    await db.execute("insert into known_ips (user_id, ip_key) select id, '203.0.113.9' from users")
    await turn_on(client, device, app)
    assert await db.fetch("select ip_key from known_ips") == [("127.0.0.1",)]
