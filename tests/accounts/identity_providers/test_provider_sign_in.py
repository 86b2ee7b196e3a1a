"""Which account a person gets whom a provider has verified."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from service.settings.rate_limit import Limit
from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, device_of, settings_of
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.mailed_links import (
    FORGOT,
    RESET,
    VERIFY,
    client_without_delivery,
    last_token,
)
from tests.accounts.test_sign_in_methods import INSERT
from tests.conftest import Client, MakeClient, until_blocked
from tests.responses import assert_error

EMAIL = "jake@example.test"
TAKEN = (409, "already_taken", {"email": ["has already been taken"]})


@pytest.fixture
def front_end(client: Client, issuer: Issuer) -> FrontEnd:
    return FrontEnd(client, issuer)


async def verify(db: asyncpg.Connection) -> None:
    await db.execute("update users set email_verified_at = now(), ever_verified = true")


async def row_of(db: asyncpg.Connection, query: str) -> Any:
    (row,) = await db.fetch(query)
    return row


async def mails(db: asyncpg.Connection) -> list[str]:
    return [row["template"] for row in await db.fetch("select template from outbox order by id")]


async def test_unknown_person_is_registered_without_a_password(
    front_end: FrontEnd, db: asyncpg.Connection
) -> None:
    response = await front_end.sign_in()
    assert response.body["user"]["image"] == "https://example.test/jake.png"
    user = await row_of(db, "select * from users")
    assert (user["username"], user["email"], user["password_hash"]) == ("jake", EMAIL, None)
    assert user["email_verified_at"] is not None and user["ever_verified"]
    identity = await row_of(db, "select * from identities")
    assert (identity["issuer"], identity["subject"]) == (front_end.provider.url, "248289761001")
    assert (identity["email"], identity["is_email_verified"]) == (EMAIL, True)
    assert await mails(db) == []


async def test_picture_is_not_fetched(front_end: FrontEnd, issuer: Issuer) -> None:
    issuer.profile["picture"] = f"{issuer.url}/picture.png"
    response = await front_end.sign_in()
    assert response.body["user"]["image"] == f"{issuer.url}/picture.png"
    assert issuer.received("/picture.png") == []


async def test_unverified_email_is_verified_by_mail(
    front_end: FrontEnd, issuer: Issuer, db: asyncpg.Connection
) -> None:
    issuer.profile["email_verified"] = "true"
    assert (await front_end.sign_in()).status == 200
    user = await row_of(db, "select * from users")
    assert user["email_verified_at"] is None and not user["ever_verified"]
    assert await mails(db) == ["verify_email"]


async def test_known_identity_signs_in_whatever_its_email_is_now(
    front_end: FrontEnd, issuer: Issuer, client: Client, db: asyncpg.Connection
) -> None:
    device_of(await front_end.sign_in())
    await client.register("alice")
    issuer.profile |= {"email": "alice@example.test", "email_verified": True}
    response = await front_end.sign_in()
    assert response.body["user"]["email"] == EMAIL
    identity = await row_of(db, "select * from identities")
    assert identity["email"] == "alice@example.test"
    del issuer.profile["email"]
    assert (await front_end.sign_in()).body["user"]["email"] == EMAIL


async def test_same_subject_at_another_issuer_is_another_identity(
    make_client: MakeClient, issuer: Issuer, other_issuer: Issuer, db: asyncpg.Connection
) -> None:
    client = await make_client(
        oidc_providers=settings_of(issuer, other_issuer), redirect_urls=(FRONT_END,)
    )
    other_issuer.profile |= {"email": "other@example.test"}
    first = await FrontEnd(client, issuer).sign_in()
    second = await FrontEnd(client, other_issuer, "other").sign_in()
    assert first.body["user"]["email"] != second.body["user"]["email"]
    assert await db.fetchval("select count(distinct user_id) from identities") == 2


async def test_identity_without_an_email_registers_no_account(
    front_end: FrontEnd, issuer: Issuer, db: asyncpg.Connection
) -> None:
    del issuer.profile["email"]
    expected = (403, "provider_email_missing", {"email": ["is missing"]})
    assert_error(await front_end.sign_in(), *expected)
    assert await db.fetchval("select count(*) from users") == 0


async def test_account_that_verified_the_email_is_linked_and_its_owner_is_told(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection
) -> None:
    before = await client.open_account("jake")
    await verify(db)
    device = device_of(await front_end.sign_in())
    user = await row_of(db, "select * from users")
    assert user["password_hash"] is not None
    assert await client.is_authenticated(before.access)
    assert await client.is_authenticated(device.access)
    assert "identity_added" in await mails(db)
    kinds = [row["kind"] for row in await db.fetch("select kind from events order by id")]
    assert kinds[-2:] == ["signed_in", "identity_linked"]


async def test_account_is_not_linked_when_the_provider_has_not_verified_the_email(
    front_end: FrontEnd, issuer: Issuer, client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("jake")
    await verify(db)
    issuer.profile["email_verified"] = 1
    assert_error(await front_end.sign_in(), *TAKEN)
    assert await db.fetchval("select count(*) from identities") == 0


@pytest.mark.parametrize(
    ("email", "is_verified", "status"),
    [
        ("WEISS@example.test", True, 200),
        ("weiß@example.test", True, 409),
        ("weiß@example.test", False, 409),
    ],
)
async def test_account_of_another_mailbox_with_the_same_key_is_not_linked(
    front_end: FrontEnd,
    issuer: Issuer,
    client: Client,
    db: asyncpg.Connection,
    email: str,
    is_verified: bool,
    status: int,
) -> None:
    owner = await client.open_account("weiss")
    if is_verified:
        await verify(db)
    issuer.profile["email"] = email
    assert (await front_end.sign_in()).status == status
    assert await client.is_authenticated(owner.access)


async def test_account_with_another_identity_at_the_issuer_is_not_linked(
    front_end: FrontEnd, issuer: Issuer, db: asyncpg.Connection
) -> None:
    """The provider has given the email of a person who has left to another person."""
    device_of(await front_end.sign_in())
    issuer.profile["sub"] = "another person"
    assert_error(await front_end.sign_in(), *TAKEN)
    assert await db.fetchval("select count(*) from identities") == 1


async def test_emails_of_accounts_cannot_be_listed(
    make_client: MakeClient, issuer: Issuer, db: asyncpg.Connection
) -> None:
    """At a provider that verifies no email, any person can claim any email."""
    client = await make_client(
        oidc_providers=settings_of(issuer),
        redirect_urls=(FRONT_END,),
        conflict_limit=Limit(3, 3600),
    )
    await client.register("jake")
    issuer.profile["email_verified"] = False
    statuses = []
    for number in range(5):
        issuer.profile["sub"] = str(number)
        statuses.append((await FrontEnd(client, issuer).sign_in()).status)
    assert statuses == [409, 409, 409, 429, 429]


async def test_account_whose_current_email_is_not_verified_is_not_linked(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("jake")
    await db.execute("update users set ever_verified = true")
    assert_error(await front_end.sign_in(), *TAKEN)


async def test_owner_takes_over_an_account_that_was_never_verified(
    make_client: MakeClient, issuer: Issuer, other_issuer: Issuer, db: asyncpg.Connection
) -> None:
    """A stranger has registered the email of the owner, and prepared every way in."""
    client = await make_client(
        oidc_providers=settings_of(issuer, other_issuer), redirect_urls=(FRONT_END,)
    )
    stranger = await client.open_account("jake")
    user_id = await db.fetchval("select id from users")
    await client.put("/api/user", {"user": {"email": "evil@example.test"}}, token=stranger.access)
    await db.execute(
        "insert into identities (user_id, issuer, subject, is_email_verified) "
        "values ($1, $2, 'evil', false)",
        user_id,
        other_issuer.url,
    )
    await db.execute(INSERT, user_id)
    await db.execute(
        "insert into totp_secrets (user_id, secret, is_confirmed) values ($1, '', true)", user_id
    )
    await db.execute("update users set two_factor_since = now()")
    device = device_of(await FrontEnd(client, issuer).sign_in())
    assert not await client.is_authenticated(stranger.access)
    assert (await client.refresh(stranger.refresh)).status == 401
    user = await row_of(db, "select * from users")
    assert (user["password_hash"], user["two_factor_since"]) == (None, None)
    assert user["email_verified_at"] is not None
    assert (await row_of(db, "select issuer from identities"))["issuer"] == issuer.url
    for table in ("passkeys", "totp_secrets"):
        assert await db.fetchval(f"select count(*) from {table}") == 0  # noqa: S608
    tokens = "select purpose from one_time_tokens where user_id is not null and used_at is null"
    assert {row["purpose"] for row in await db.fetch(tokens)} <= {"report"}
    old = {"user": {"email": EMAIL, "password": "jake-secret"}}
    assert (await client.post("/api/users/login", old)).status == 401
    assert await client.is_authenticated(device.access)
    other_issuer.profile = {"sub": "evil"}
    assert (await FrontEnd(client, other_issuer, "other").sign_in()).status == 403


async def test_stranger_who_registered_an_email_through_a_provider_is_out_after_a_reset(
    make_client: MakeClient, issuer: Issuer, db: asyncpg.Connection
) -> None:
    """The owner of the email confirms it, because a mail asks for it, and sets a password."""
    client = await client_without_delivery(
        make_client, oidc_providers=settings_of(issuer), redirect_urls=(FRONT_END,)
    )
    issuer.profile["email_verified"] = False
    stranger = device_of(await FrontEnd(client, issuer).sign_in())
    assert (await client.post(VERIFY, {"token": await last_token(db, EMAIL)})).status == 200
    assert (await client.post(FORGOT, {"email": EMAIL})).status == 200
    token = await last_token(db, EMAIL, "reset_password")
    body = {"token": token, "new_password": "the owner's secret"}
    assert (await client.post(RESET, body)).status == 200
    assert not await client.is_authenticated(stranger.access)
    assert_error(await FrontEnd(client, issuer).sign_in(), *TAKEN)


async def test_reset_keeps_an_identity_whose_email_was_verified(
    make_client: MakeClient, issuer: Issuer, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(
        make_client, oidc_providers=settings_of(issuer), redirect_urls=(FRONT_END,)
    )
    device_of(await FrontEnd(client, issuer).sign_in())
    assert (await client.post(FORGOT, {"email": EMAIL})).status == 200
    token = await last_token(db, EMAIL, "reset_password")
    body = {"token": token, "new_password": "the owner's secret"}
    assert (await client.post(RESET, body)).status == 200
    device_of(await FrontEnd(client, issuer).sign_in())


async def test_unverified_email_takes_over_nothing(
    front_end: FrontEnd, issuer: Issuer, client: Client
) -> None:
    stranger = await client.open_account("jake")
    issuer.profile["email_verified"] = False
    assert_error(await front_end.sign_in(), *TAKEN)
    assert await client.is_authenticated(stranger.access)


async def test_simultaneous_first_sign_ins_register_one_account(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    tabs = [FrontEnd(client, issuer) for _ in range(8)]
    codes = [await tab.code() for tab in tabs]
    responses = await asyncio.gather(
        *(tab.exchange(code) for tab, code in zip(tabs, codes, strict=True))
    )
    assert Counter(response.status for response in responses) == {200: 8}
    assert await db.fetchval("select count(*) from users") == 1
    assert await db.fetchval("select count(*) from identities") == 1


async def test_email_that_is_verified_meanwhile_is_not_taken_over(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection, database_url: str
) -> None:
    stranger = await client.open_account("jake")
    code = await front_end.code()
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("update users set email_verified_at = now(), ever_verified = true")
        task = asyncio.create_task(front_end.exchange(code))
        await until_blocked(db, 1)
    await other.close()
    device_of(await task)
    # The account was linked, and not taken over.
    assert await client.is_authenticated(stranger.access)
    assert (await row_of(db, "select * from users"))["password_hash"] is not None


async def test_verified_email_is_required_when_the_setting_says_so(
    make_client: MakeClient, issuer: Issuer, db: asyncpg.Connection
) -> None:
    client = await make_client(
        oidc_providers=settings_of(issuer),
        redirect_urls=(FRONT_END,),
        require_verified_email=True,
    )
    assert (await FrontEnd(client, issuer).sign_in()).status == 200
    issuer.profile = {"sub": "2", "email": "unverified@example.test"}
    response = await FrontEnd(client, issuer).sign_in()
    assert (response.status, response.body["code"]) == (403, "email_not_verified")
    assert await db.fetchval("select count(*) from identities") == 2
    again = await FrontEnd(client, issuer).sign_in()
    assert again.body["code"] == "email_not_verified"
    assert await db.fetchval("select count(*) from users") == 2
