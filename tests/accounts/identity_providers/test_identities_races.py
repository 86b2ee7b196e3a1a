"""Everything that changes the identities of an account, at the same time."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, settings_of
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.mailed_links import REPORT, client_without_delivery, last_token
from tests.conftest import Client, Device, MakeClient, Response, until_blocked

IDENTITIES = "/api/user/identities"
ALICE = "alice@example.test"

Job = Callable[[], Awaitable[Response]]


def exchange(front_end: FrontEnd, code: str) -> Job:
    return lambda: front_end.exchange(code)


def link(client: Client, device: Device, code: str) -> Job:
    return lambda: client.post(IDENTITIES, {"code": code}, token=device.access)


def unlink(client: Client, device: Device, identity_id: str) -> Job:
    return lambda: client.delete(f"{IDENTITIES}/{identity_id}", token=device.access)


def report(client: Client, token: str) -> Job:
    return lambda: client.post(REPORT, {"token": token})


def delete_account(client: Client, device: Device) -> Job:
    body = {"user": {"password": "alice-secret"}}
    return lambda: client.delete("/api/user", body, token=device.access)


@pytest.mark.parametrize("end", ["unlinked", "reported", "deleted"])
@pytest.mark.parametrize("seed", range(3))
async def test_simultaneous_changes_have_no_internal_error(
    make_client: MakeClient,
    issuer: Issuer,
    other_issuer: Issuer,
    db: asyncpg.Connection,
    end: str,
    seed: int,
) -> None:
    client = await client_without_delivery(
        make_client, oidc_providers=settings_of(issuer, other_issuer), redirect_urls=(FRONT_END,)
    )
    alice = await client.open_account("alice")
    bob = await client.open_account("bob")
    await db.execute("update users set email_verified_at = now(), ever_verified = true")
    front_ends = [FrontEnd(client, each, each.name) for each in (issuer, other_issuer)]
    jobs: list[Job] = []
    for front_end in front_ends:
        front_end.provider.profile["email"] = ALICE
        assert (await front_end.link(alice.access)).status == 200
        for device in (alice, bob):
            path = f"{IDENTITIES}/{front_end.name}"
            jobs.append(link(client, device, await front_end.start(device.access, path)))
        for _ in range(3):
            code = await front_end.code()
            jobs += [exchange(front_end, code)] * 2
    jobs += [unlink(client, alice, str(row["id"])) for row in await db.fetch("table identities")]
    if end == "reported":
        jobs.append(report(client, await last_token(db, ALICE, "identity_added")))
    if end == "deleted":
        jobs.append(delete_account(client, alice))
    random.Random(seed).shuffle(jobs)
    async with asyncio.timeout(30):
        responses = await asyncio.gather(*(job() for job in jobs))
    assert {response.status for response in responses} <= {200, 204, 401, 404, 409}
    of_closed = """
        select count(*) from users left join sessions on sessions.user_id = users.id
        left join identities on identities.user_id = users.id
        where closed_at is not null and (ended_at is null and sessions.id is not null
            or identities.id is not null)
    """
    assert await db.fetchval(of_closed) == 0


@pytest.mark.parametrize("change", ["unlink", "link"])
async def test_session_that_ends_meanwhile_changes_no_identity(
    client: Client, issuer: Issuer, db: asyncpg.Connection, database_url: str, change: str
) -> None:
    device = await client.open_account("alice")
    await db.execute("update users set email_verified_at = now(), ever_verified = true")
    front_end = FrontEnd(client, issuer)
    if change == "unlink":
        assert (await front_end.link(device.access)).status == 200
        job = unlink(client, device, str(await db.fetchval("select id from identities")))
    else:
        job = link(client, device, await front_end.start(device.access, f"{IDENTITIES}/issuer"))
    before = await db.fetch("table identities")
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("select from users for no key update")
        await other.execute("update sessions set ended_at = now(), end_reason = 'signed_out'")
        task = asyncio.ensure_future(job())
        await until_blocked(db, 1)
    await other.close()
    assert (await task).status == 401
    assert await db.fetch("table identities") == before
