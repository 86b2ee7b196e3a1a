"""An identity that the owner has unlinked or reported does not come back by itself.

The person who has the account at the provider may be the reason: a thief, or the next employee.
"""

import asyncpg
import pytest

from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, device_of, settings_of
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.mailed_links import (
    FORGOT,
    REPORT,
    RESET,
    client_without_delivery,
    last_token,
)
from tests.conftest import Client, Device, MakeClient
from tests.responses import assert_error

ALICE = "alice@example.test"
TAKEN = (409, "already_taken", {"email": ["has already been taken"]})


@pytest.fixture
async def client(make_client: MakeClient, issuer: Issuer) -> Client:
    issuer.profile["email"] = ALICE
    return await client_without_delivery(
        make_client, oidc_providers=settings_of(issuer), redirect_urls=(FRONT_END,)
    )


@pytest.fixture
async def device(client: Client, db: asyncpg.Connection) -> Device:
    """Return a device of Alice, whose email is verified."""
    device = await client.open_account("alice")
    await db.execute("update users set email_verified_at = now(), ever_verified = true")
    return device


@pytest.fixture
def front_end(client: Client, issuer: Issuer) -> FrontEnd:
    return FrontEnd(client, issuer)


async def unlink(client: Client, device: Device, db: asyncpg.Connection) -> None:
    identity_id = await db.fetchval("select id from identities")
    path = f"/api/user/identities/{identity_id}"
    assert (await client.delete(path, token=device.access)).status == 204


async def issuers_of(db: asyncpg.Connection) -> list[str]:
    issuers: list[str] = await db.fetchval("select unlinked_issuers from users")
    return issuers


async def test_unlinked_identity_is_not_linked_without_asking(
    front_end: FrontEnd, client: Client, device: Device, db: asyncpg.Connection
) -> None:
    device_of(await front_end.sign_in())
    await unlink(client, device, db)
    assert_error(await front_end.sign_in(), *TAKEN)
    # Neither is another one with the same email.
    front_end.provider.profile["sub"] = "another"
    assert_error(await front_end.sign_in(), *TAKEN)


async def test_reported_identity_is_not_linked_without_asking(
    front_end: FrontEnd, client: Client, device: Device, db: asyncpg.Connection
) -> None:
    device_of(await front_end.sign_in())
    token = await last_token(db, ALICE, "identity_added")
    assert (await client.post(REPORT, {"token": token})).status == 200
    assert_error(await front_end.sign_in(), *TAKEN)


async def test_owner_links_an_unlinked_identity_again(
    front_end: FrontEnd, client: Client, device: Device, db: asyncpg.Connection
) -> None:
    for _ in range(2):
        assert (await front_end.link(device.access)).status == 200
        device_of(await front_end.sign_in())
        assert await issuers_of(db) == []
        await unlink(client, device, db)
        assert await issuers_of(db) == [front_end.provider.url]


async def test_owner_takes_over_an_account_in_which_a_stranger_unlinked_an_identity(
    front_end: FrontEnd, issuer: Issuer, client: Client, db: asyncpg.Connection
) -> None:
    """Otherwise the stranger could keep the owner out."""
    stranger = await client.open_account("alice")
    await db.execute("update users set unlinked_issuers = array[$1]", issuer.url)
    device_of(await front_end.sign_in())
    assert not await client.is_authenticated(stranger.access)
    assert await issuers_of(db) == []


async def test_reset_of_an_account_that_was_never_verified_forgets_what_was_unlinked(
    front_end: FrontEnd, issuer: Issuer, client: Client, db: asyncpg.Connection
) -> None:
    await client.open_account("alice")
    await db.execute("update users set unlinked_issuers = array[$1]", issuer.url)
    assert (await client.post(FORGOT, {"email": ALICE})).status == 200
    token = await last_token(db, ALICE, "reset_password")
    body = {"token": token, "new_password": "the owner's secret"}
    assert (await client.post(RESET, body)).status == 200
    device_of(await front_end.sign_in())
