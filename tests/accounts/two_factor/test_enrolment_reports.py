"""Reports of an owner whose account got the second factor of a thief."""

import asyncpg
import pytest

from tests.accounts.mailed_links import REPORT, client_without_delivery, last_token
from tests.accounts.two_factor.authenticator_app import (
    CONFIRM,
    EMAIL,
    AuthenticatorApp,
    begin,
    challenge_of,
    first_step,
    second_step,
    turn_on,
)
from tests.conftest import Client, Device, MakeClient

EVIL = "evil@example.test"
THIEF = {"User-Agent": "another device"}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


@pytest.fixture
async def thief(client: Client, device: Device) -> Device:
    """Return a device that a thief has logged in. The owner gets a notice of this login."""
    return Device.of(await first_step(client, headers=THIEF))


async def report(client: Client, db: asyncpg.Connection, template: str) -> None:
    """Use the link in the last notice ``template`` to the owner."""
    token = await last_token(db, EMAIL, template)
    assert (await client.post(REPORT, {"token": token})).status == 200


async def has_factor(db: asyncpg.Connection) -> bool:
    """Return whether the second factor is on, after a check that nothing of it is left if not."""
    is_on = bool(await db.fetchval("select two_factor_since is not null from users"))
    rows = await db.fetchval(
        "select (select count(*) from totp_secrets) + (select count(*) from recovery_codes)"
    )
    assert bool(rows) is is_on
    return is_on


async def test_report_of_the_notice_removes_the_factor(
    client: Client, thief: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    await turn_on(client, thief, app)
    await report(client, db, "two_factor_on")
    assert not await has_factor(db)


async def test_report_of_an_older_notice_removes_the_factor_too(
    client: Client, thief: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    """It revokes the link of the notice about the factor. The owner would be locked out."""
    await turn_on(client, thief, app)
    newer = await last_token(db, EMAIL, "two_factor_on")
    await report(client, db, "new_sign_in")
    assert not await has_factor(db)
    assert (await client.post(REPORT, {"token": newer})).status == 404


async def test_report_of_a_changed_email_removes_the_factor_that_was_added_after_it(
    client: Client, thief: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    """The notice about the factor went to the email of the thief."""
    change = {"user": {"email": EVIL}}
    assert (await client.put("/api/user", change, token=thief.access)).status == 200
    token = await last_token(db, EVIL, "change_email")
    assert (await client.post("/api/auth/confirm-email-change", {"token": token})).status == 200
    await turn_on(client, thief, app)
    await report(client, db, "email_changed")
    assert not await has_factor(db)


async def test_report_of_an_older_notice_removes_a_replaced_secret(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    challenge = await challenge_of(client)
    response = await second_step(client, challenge, app.next_code(), headers=THIEF)
    thief = Device.of(response)
    await begin(client, thief, app)
    body = {"code": app.next_code()}
    assert (await client.post(CONFIRM, body, token=thief.access)).status == 200
    await report(client, db, "new_sign_in")
    assert not await has_factor(db)


async def test_report_keeps_the_factor_that_was_on_before_its_notice(
    client: Client, enrolled: Device, app: AuthenticatorApp, db: asyncpg.Connection
) -> None:
    challenge = await challenge_of(client)
    response = await second_step(client, challenge, app.next_code(), headers=THIEF)
    assert response.status == 200
    await report(client, db, "new_sign_in")
    assert await has_factor(db)
