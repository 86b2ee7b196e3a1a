"""The mails about passkeys, and what a report and a reset do with passkeys."""

import json

import asyncpg
import pytest

from service.accounts.one_time_tokens import Purpose, issue
from tests.accounts.mailed_links import (
    FORGOT,
    REPORT,
    RESET,
    client_without_delivery,
    last_token,
    open_page,
)
from tests.accounts.passkeys.passkeys import (
    PASSKEYS,
    add_passkey,
    list_passkeys,
    log_in,
    open_verified_account,
)
from tests.conftest import Client, Device, MakeClient

ALICE = "alice@example.test"
NEW = "a new secret"


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


async def use(client: Client, path: str, token: str, **fields: str) -> None:
    """Use the token of a mailed link."""
    assert (await client.post(path, {"token": token, **fields})).status == 200


async def test_owner_is_told_about_added_and_removed_passkeys(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    _, passkey_id = await add_passkey(client, alice)
    await client.patch(f"{PASSKEYS}/{passkey_id}", {"name": "Buy now"}, token=alice)
    await client.delete(f"{PASSKEYS}/{passkey_id}", token=alice)
    rows = await db.fetch(
        "select template, recipient, values from outbox where template like 'passkey_%'"
        " order by created_at"
    )
    assert [(row["template"], row["recipient"]) for row in rows] == [
        ("passkey_added", ALICE),
        ("passkey_removed", ALICE),
    ]
    for row in rows:
        assert set(json.loads(row["values"])) == {"time", "ip", "link", "days"}


async def test_reported_passkey_is_removed(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    own, _ = await add_passkey(client, alice)
    stolen, _ = await add_passkey(client, alice)
    token = await last_token(db, ALICE, "passkey_added")
    page = await open_page(client, REPORT, token)
    assert "passkeys that were set up since this mail" in page.body
    await use(client, REPORT, token)
    assert (await log_in(client, stolen)).body["code"] == "passkey_unknown"
    # The passkey of the owner is older than the notice.
    assert (await log_in(client, own)).status == 200


async def test_passkey_of_the_first_notice_and_each_later_one_are_removed(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    stolen = [(await add_passkey(client, alice))[0]]
    token = await last_token(db, ALICE, "passkey_added")
    stolen += [(await add_passkey(client, alice))[0] for _ in range(2)]
    await use(client, REPORT, token)
    for authenticator in stolen:
        assert (await log_in(client, authenticator)).body["code"] == "passkey_unknown"


async def test_report_of_any_notice_removes_the_passkeys_that_are_newer(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    own, _ = await add_passkey(client, alice)
    await db.execute("update passkeys set created_at = now() - interval '1 day'")
    user_id = await db.fetchval("select id from users")
    token = await issue(db, Purpose.REPORT, user_id, email=ALICE, email_key=ALICE)
    stolen, _ = await add_passkey(client, alice)
    await db.execute(
        "update passkeys set created_at = now() + interval '1 minute' where credential_id = $1",
        stolen.id,
    )
    await use(client, REPORT, token)
    assert (await log_in(client, stolen)).body["code"] == "passkey_unknown"
    assert (await log_in(client, own)).status == 200


async def test_report_ends_the_sessions_of_passkeys(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    device = Device.of(await log_in(client, authenticator))
    await use(client, REPORT, await last_token(db, ALICE, "passkey_added"))
    assert not await client.is_authenticated(device.access)


async def test_reset_of_a_verified_account_keeps_its_passkeys(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    await client.post(FORGOT, {"email": ALICE})
    await use(client, RESET, await last_token(db, ALICE, "reset_password"), new_password=NEW)
    assert (await log_in(client, authenticator)).status == 200


async def test_reset_of_a_never_verified_account_removes_its_passkeys(
    client: Client, db: asyncpg.Connection
) -> None:
    """Another person registered the email of the owner, and added a passkey."""
    thief = await open_verified_account(client, db, "alice")
    authenticator, _ = await add_passkey(client, thief.access)
    await db.execute("update users set email_verified_at = null, ever_verified = false")
    await client.post(FORGOT, {"email": ALICE})
    await use(client, RESET, await last_token(db, ALICE, "reset_password"), new_password=NEW)
    assert (await log_in(client, authenticator)).body["code"] == "passkey_unknown"
    owner = await client.sign_in("alice", NEW)
    assert await list_passkeys(client, owner.access) == []
