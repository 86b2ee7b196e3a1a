"""The notice about a changed email goes to the old email, with a link that undoes the change."""

import asyncpg
import pytest

from tests.accounts.mailed_links import (
    CONFIRM_CHANGE,
    FORGOT,
    REPORT,
    RESET,
    VERIFY,
    client_without_delivery,
    last_token,
    links,
)
from tests.conftest import Client, Device, Dialect, MakeClient
from tests.responses import assert_error

ALICE, EVIL = "alice@example.test", "evil@example.test"
STOLEN, NEW = "a stolen secret", "a new secret"
UNKNOWN = {"token": ["not found"]}


@pytest.fixture
async def client(make_client: MakeClient, dialect: Dialect) -> Client:
    return await client_without_delivery(make_client, realworld_strict=dialect.strict)


@pytest.fixture
async def owner(client: Client, db: asyncpg.Connection) -> Device:
    """Register Alice and verify the email."""
    device = await client.open_account("alice")
    assert (await client.post(VERIFY, {"token": await last_token(db, ALICE)})).status == 200
    return device


async def change_email(
    client: Client, db: asyncpg.Connection, access: str, email: str, **others: str
) -> None:
    """Change the email, and confirm the change in the default dialect."""
    given = {"user": {"email": email, **others}}
    response = await client.put("/api/user", given, token=access)
    assert response.status == 200
    if response.body["user"]["email"] != email:
        token = await last_token(db, email, "change_email")
        assert (await client.post(CONFIRM_CHANGE, {"token": token})).status == 200


async def status_of_login(client: Client, email: str, password: str) -> int:
    user = {"email": email, "password": password}
    return (await client.post("/api/users/login", {"user": user})).status


async def notices(db: asyncpg.Connection) -> list[str]:
    query = "select recipient from outbox where template = 'email_changed' order by created_at"
    return [row["recipient"] for row in await db.fetch(query)]


async def test_notice_goes_to_the_email_as_it_was_before(
    client: Client, owner: Device, db: asyncpg.Connection
) -> None:
    await change_email(client, db, owner.access, EVIL)
    assert await notices(db) == [ALICE]
    (link,) = await links(db, ALICE, "email_changed")
    assert link.startswith("http://localhost:3000/api/auth/report?token=")


async def test_every_notice_of_one_request_goes_to_the_email_as_it_was_before(
    client: Client, owner: Device, db: asyncpg.Connection
) -> None:
    """One transaction replaces password and username, and in the strict dialect the email."""
    await change_email(client, db, owner.access, EVIL, password=STOLEN, username="mallory")
    rows = await db.fetch("select recipient, template from outbox where template like '%_changed'")
    assert sorted(tuple(row) for row in rows) == [
        (ALICE, "email_changed"),
        (ALICE, "password_changed"),
        (ALICE, "username_changed"),
    ]


async def test_request_that_is_not_confirmed_sends_no_notice(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client)
    access = await client.register("alice")
    await client.post(VERIFY, {"token": await last_token(db, ALICE)})
    assert (await client.put("/api/user", {"user": {"email": EVIL}}, token=access)).status == 200
    assert await notices(db) == []


async def test_loser_of_a_race_for_an_email_gets_no_notice(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client)
    access = await client.register("alice")
    await client.post(VERIFY, {"token": await last_token(db, ALICE)})
    assert (await client.put("/api/user", {"user": {"email": EVIL}}, token=access)).status == 200
    await client.register("bob", email=EVIL)
    token = await last_token(db, EVIL, "change_email")
    assert (await client.post(CONFIRM_CHANGE, {"token": token})).status == 409
    assert await notices(db) == []


@pytest.mark.parametrize("again", [(), (ALICE, EVIL), ("evil2@example.test", "evil3@example.test")])
async def test_owner_gets_the_account_back_after_the_new_email_was_confirmed(
    client: Client, owner: Device, db: asyncpg.Connection, again: tuple[str, ...]
) -> None:
    """The thief may change the email again and again. The first link of the owner stays valid."""
    await change_email(client, db, owner.access, EVIL, password=STOLEN)
    token = await last_token(db, ALICE, "email_changed")
    for email in again:
        await change_email(client, db, owner.access, email)
    assert (await client.post(REPORT, {"token": token})).status == 200
    assert await db.fetchval("select email from users") == ALICE
    assert not await client.is_authenticated(owner.access)
    for email in (ALICE, EVIL, *again):
        assert await status_of_login(client, email, STOLEN) == 401
    assert (await client.post(FORGOT, {"email": EVIL})).status == 200
    assert await links(db, EVIL, "reset_password") == []
    reset = {"token": await last_token(db, ALICE, "reset_password"), "new_password": NEW}
    assert (await client.post(RESET, reset)).status == 200
    assert await status_of_login(client, ALICE, NEW) == 200


async def test_pending_change_of_a_thief_is_dead_after_a_report(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client)
    access = await client.register("alice")
    given = {"user": {"email": EVIL, "username": "mallory"}}
    assert (await client.put("/api/user", given, token=access)).status == 200
    token = await last_token(db, ALICE, "username_changed")
    assert (await client.post(REPORT, {"token": token})).status == 200
    change = await last_token(db, EVIL, "change_email")
    assert_error(await client.post(CONFIRM_CHANGE, {"token": change}), 404, "not_found", UNKNOWN)
    assert await db.fetchval("select email from users") == ALICE


async def test_owner_of_a_mistyped_email_gets_no_link_into_the_account(
    client: Client, db: asyncpg.Connection
) -> None:
    """A person registers with the email of a stranger, and corrects it."""
    access = await client.register("ann", email="mistyped@example.test")
    renamed = {"user": {"username": "anna"}}
    assert (await client.put("/api/user", renamed, token=access)).status == 200
    report = await last_token(db, "mistyped@example.test", "username_changed")
    await change_email(client, db, access, "ann@example.test")
    assert await notices(db) == []
    assert_error(await client.post(REPORT, {"token": report}), 404, "not_found", UNKNOWN)
    assert await client.is_authenticated(access)
    assert await db.fetchval("select email from users") == "ann@example.test"
