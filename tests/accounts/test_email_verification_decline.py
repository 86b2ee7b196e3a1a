"""The owner of an email deletes an account that another person registered with it."""

import asyncio

import asyncpg
import pytest

from service.accounts.email_verification import DECLINED
from tests.accounts.mailed_links import (
    DECLINE,
    RESEND,
    VERIFY,
    client_without_delivery,
    last_token,
    links,
    open_page,
    submit,
)
from tests.conftest import Client, MakeClient
from tests.responses import assert_error

ALICE = "alice@example.test"
NEW = "new@example.test"


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


@pytest.mark.parametrize("form", [False, True])
async def test_decline_deletes_a_never_verified_account_and_frees_the_email(
    client: Client, alice: str, db: asyncpg.Connection, form: bool
) -> None:
    token = await last_token(db, ALICE)
    if form:
        page = await submit(client, DECLINE, token=token)
        assert page.status == 200 and "<h1>Account deleted</h1>" in page.body
    else:
        response = await client.post(DECLINE, {"token": token})
        assert (response.status, response.body) == (200, {"message": DECLINED})
    assert not await client.is_authenticated(alice)
    user = {"email": ALICE, "password": "alice-secret"}
    assert (await client.post("/api/users/login", {"user": user})).status == 401
    kinds = await db.fetch("select kind from events where user_id is not null order by id")
    assert [kind for (kind,) in kinds] == ["registered", "account_deleted"]
    for path in (VERIFY, DECLINE):
        assert (await client.post(path, {"token": token})).status == 404
    await client.register("alice")


async def test_decline_deletes_no_account_that_had_a_verified_email(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    # The strict dialect changes an email at once, to one that is not verified.
    client = await client_without_delivery(make_client, realworld_strict=True)
    alice = await client.register("alice")
    await client.post(RESEND, token=alice)
    first, second = [link.partition("=")[2] for link in await links(db, ALICE)]
    await client.post(VERIFY, {"token": first})
    assert (await client.post(DECLINE, {"token": second})).status == 404
    await client.put("/api/user", {"user": {"email": NEW}}, token=alice)
    await client.post(RESEND, token=alice)
    assert await offers(db) == {(ALICE, "yes"), (NEW, "")}
    token = await last_token(db, NEW)
    page = await open_page(client, VERIFY, token)
    assert page.status == 200 and DECLINE not in page.body
    rejected = await client.post(DECLINE, {"token": token})
    assert_error(rejected, 404, "not_found", {"registration": ["not found"]})
    page = await submit(client, DECLINE, token=token)
    assert page.status == 404 and "<h1>The account was not deleted</h1>" in page.body
    assert await client.is_authenticated(alice)
    # The rejection has not used the token.
    assert (await client.post(VERIFY, {"token": token})).status == 200


async def offers(db: asyncpg.Connection) -> set[tuple[str, str]]:
    """Return who got a mail, and whether the mail says how to delete the account."""
    rows = await db.fetch(
        "select recipient, values ->> 'can_decline' from outbox where template = 'verify_email'"
    )
    return {tuple(row) for row in rows}


async def test_mail_of_a_refused_login_offers_no_deletion_of_an_account_verified_before(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(
        make_client, realworld_strict=True, require_verified_email=True
    )
    user = {"email": ALICE, "password": "alice-secret"}
    registered = await client.post("/api/users", {"user": {**user, "username": "alice"}})
    assert registered.status == 403
    await client.post(VERIFY, {"token": await last_token(db, ALICE)})
    token = (await client.post("/api/users/login", {"user": user})).body["user"]["token"]
    changed = await client.put("/api/user", {"user": {"email": NEW}}, token=token)
    assert changed.status == 200
    await db.execute("delete from outbox where recipient = $1", NEW)
    refused = await client.post("/api/users/login", {"user": {**user, "email": NEW}})
    assert refused.status == 403
    assert await offers(db) == {(ALICE, "yes"), (NEW, "")}


async def test_concurrent_confirm_and_decline_have_one_effect(
    client: Client, db: asyncpg.Connection
) -> None:
    for number in range(10):
        name = f"user{number}"
        access = await client.register(name)
        token = await last_token(db, f"{name}@example.test")
        confirmed, declined = await asyncio.gather(
            client.post(VERIFY, {"token": token}), client.post(DECLINE, {"token": token})
        )
        assert sorted((confirmed.status, declined.status)) == [200, 404]
        assert await client.is_authenticated(access) is (confirmed.status == 200)
