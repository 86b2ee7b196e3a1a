"""List, link and unlink identities, and prove them again."""

import asyncio
from collections import Counter

import asyncpg
import pytest
from yarl import URL

from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, device_of, settings_of
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.mailed_links import REPORT, client_without_delivery, last_token
from tests.accounts.proofs import make_proofs_stale
from tests.conftest import Client, Device, MakeClient
from tests.responses import assert_error, assert_invalid

IDENTITIES = "/api/user/identities"
INVALID = (401, "provider_code_invalid", {"code": ["is invalid"]})
REDIRECT = {"redirect_to": FRONT_END}
ALICE = "alice@example.test"


@pytest.fixture
async def client(make_client: MakeClient, issuer: Issuer) -> Client:
    return await client_without_delivery(
        make_client, oidc_providers=settings_of(issuer), redirect_urls=(FRONT_END,)
    )


@pytest.fixture
def front_end(client: Client, issuer: Issuer) -> FrontEnd:
    return FrontEnd(client, issuer)


@pytest.fixture
async def device(client: Client, db: asyncpg.Connection) -> Device:
    """Return a device of Alice, whose email is verified."""
    device = await client.open_account("alice")
    await verify(db)
    return device


async def verify(db: asyncpg.Connection) -> None:
    await db.execute("update users set email_verified_at = now(), ever_verified = true")


async def remove_passwords(db: asyncpg.Connection) -> None:
    await db.execute("update users set password_hash = null")


async def test_list_is_empty_at_first(client: Client, device: Device) -> None:
    assert (await client.get(IDENTITIES, token=device.access)).body == {"identities": []}


async def test_user_links_and_lists_an_identity(
    client: Client, front_end: FrontEnd, issuer: Issuer, device: Device, db: asyncpg.Connection
) -> None:
    response = await front_end.link(device.access)
    assert response.status == 200
    linked = response.body["identity"]
    assert {name: linked[name] for name in ("provider", "issuer", "email", "email_verified")} == {
        "provider": "issuer",
        "issuer": issuer.url,
        "email": "jake@example.test",
        "email_verified": True,
    }
    listed = await client.get(IDENTITIES, token=device.access)
    assert listed.body == {"identities": [linked]}
    assert (await front_end.sign_in()).body["user"]["username"] == "alice"
    assert await last_token(db, ALICE, "identity_added")
    kinds = [row["kind"] for row in await db.fetch("select kind from events")]
    assert kinds.count("identity_linked") == 1
    # The account keeps its email.
    assert await db.fetchval("select email from users") == ALICE


async def test_linking_again_changes_nothing(
    front_end: FrontEnd, device: Device, db: asyncpg.Connection
) -> None:
    first = await front_end.link(device.access)
    second = await front_end.link(device.access)
    assert (second.status, second.body) == (200, first.body)
    query = "select count(*) from outbox where template = 'identity_added'"
    assert await db.fetchval(query) == 1


async def test_unverified_email_links_nothing(
    client: Client, front_end: FrontEnd, db: asyncpg.Connection
) -> None:
    """Otherwise an attacker would keep the account after its owner has verified the email."""
    token = await client.register("alice")
    response = await front_end.link(token)
    assert (response.status, response.body["code"]) == (403, "email_not_verified")
    assert await db.fetchval("select count(*) from identities") == 0


async def test_identity_of_another_account_is_taken(
    client: Client, front_end: FrontEnd, device: Device, db: asyncpg.Connection
) -> None:
    assert (await front_end.sign_in()).status == 200
    expected = (409, "already_taken", {"identity": ["has already been taken"]})
    assert_error(await front_end.link(device.access), *expected)


async def test_user_has_one_identity_at_a_provider(
    front_end: FrontEnd, issuer: Issuer, device: Device
) -> None:
    assert (await front_end.link(device.access)).status == 200
    issuer.profile["sub"] = "2"
    expected = (409, "already_taken", {"provider": ["has already been taken"]})
    assert_error(await front_end.link(device.access), *expected)


async def test_simultaneous_links_of_one_identity_link_it_once(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    tokens = [await client.register(f"user{number}") for number in range(6)]
    await verify(db)
    front_ends = [FrontEnd(client, issuer) for _ in tokens]
    codes = [
        await each.start(token, f"{IDENTITIES}/issuer")
        for each, token in zip(front_ends, tokens, strict=True)
    ]
    responses = await asyncio.gather(
        *(
            client.post(IDENTITIES, {"code": code}, token=token)
            for code, token in zip(codes, tokens, strict=True)
        )
    )
    assert Counter(response.status for response in responses) == {200: 1, 409: 5}


async def test_begin_needs_a_fresh_proof(
    client: Client, device: Device, db: asyncpg.Connection
) -> None:
    await make_proofs_stale(client, db)
    response = await client.post(f"{IDENTITIES}/issuer", REDIRECT, token=device.access)
    assert response.body["code"] == "reauthentication_required"


async def test_victim_who_consents_to_the_link_of_an_attacker_gains_them_nothing(
    client: Client, front_end: FrontEnd, device: Device, db: asyncpg.Connection
) -> None:
    """The attacker begins, and the victim logs in at the provider in their own browser."""
    attacker = await client.open_account("mallory")
    await verify(db)
    code = await front_end.start(attacker.access, f"{IDENTITIES}/issuer")
    # The code is in the browser of the victim, whose front-end sends it with the victim's token.
    response = await client.post(IDENTITIES, {"code": code}, token=device.access)
    assert_error(response, *INVALID)
    # Another session of the attacker does not help either.
    other = await client.sign_in("mallory")
    assert_error(await client.post(IDENTITIES, {"code": code}, token=other.access), *INVALID)
    # Neither does an exchange: the code is for the link alone.
    assert_error(await front_end.exchange(code), *INVALID)
    assert await db.fetchval("select count(*) from identities") == 0


async def test_code_of_a_sign_in_links_nothing(
    client: Client, front_end: FrontEnd, device: Device
) -> None:
    code = await front_end.code()
    assert_error(await client.post(IDENTITIES, {"code": code}, token=device.access), *INVALID)


async def test_code_of_a_link_is_used_once(
    client: Client, front_end: FrontEnd, device: Device
) -> None:
    code = await front_end.start(device.access, f"{IDENTITIES}/issuer")
    assert (await client.post(IDENTITIES, {"code": code}, token=device.access)).status == 200
    assert_error(await client.post(IDENTITIES, {"code": code}, token=device.access), *INVALID)


async def test_link_binds_the_subject_of_its_flow(
    client: Client, front_end: FrontEnd, issuer: Issuer, device: Device, db: asyncpg.Connection
) -> None:
    code = await front_end.start(device.access, f"{IDENTITIES}/issuer")
    subject, issuer.profile["sub"] = issuer.profile["sub"], "another with the same email"
    assert (await client.post(IDENTITIES, {"code": code}, token=device.access)).status == 200
    assert await db.fetchval("select subject from identities") == subject
    # The other one is another person: the email is not that of the account.
    response = await front_end.sign_in()
    assert response.body["user"]["username"] != "alice"


@pytest.mark.parametrize(
    "redirect_to", ["https://evil.test/", f"{FRONT_END}.evil.test", "javascript:alert(1)"]
)
@pytest.mark.parametrize("path", [f"{IDENTITIES}/issuer", "/api/auth/reauthenticate/issuer"])
async def test_redirect_to_must_be_allowed(
    client: Client, device: Device, path: str, redirect_to: str
) -> None:
    response = await client.post(path, {"redirect_to": redirect_to}, token=device.access)
    assert_invalid(response, 400, redirect_to="is not allowed: see REDIRECT_URLS")


async def test_started_flow_of_another_provider_is_invalid(
    make_client: MakeClient, issuer: Issuer, other_issuer: Issuer
) -> None:
    client = await make_client(
        oidc_providers=settings_of(issuer, other_issuer), redirect_urls=(FRONT_END,)
    )
    token = await client.register("alice")
    started = await client.post(f"{IDENTITIES}/issuer", REDIRECT, token=token)
    start = URL(started.body["authorization_url"]).query["start"]
    response = await client.get("/api/auth/oauth/other", params={"start": start})
    assert response.status == 400


async def test_user_unlinks_an_identity(
    client: Client, front_end: FrontEnd, device: Device, db: asyncpg.Connection
) -> None:
    linked = (await front_end.link(device.access)).body["identity"]
    before = await db.fetchrow("select email, email_verified_at, ever_verified from users")
    response = await client.delete(f"{IDENTITIES}/{linked['id']}", token=device.access)
    assert response.status == 204
    assert await db.fetchval("select count(*) from identities") == 0
    after = await db.fetchrow("select email, email_verified_at, ever_verified from users")
    assert after == before
    assert await last_token(db, ALICE, "identity_removed")
    again = await client.delete(f"{IDENTITIES}/{linked['id']}", token=device.access)
    assert_error(again, 404, "not_found", {"identity": ["not found"]})


async def test_unlinking_needs_a_fresh_proof(
    client: Client, front_end: FrontEnd, device: Device, db: asyncpg.Connection
) -> None:
    linked = (await front_end.link(device.access)).body["identity"]
    await make_proofs_stale(client, db)
    response = await client.delete(f"{IDENTITIES}/{linked['id']}", token=device.access)
    assert response.body["code"] == "reauthentication_required"


async def test_identity_of_another_user_is_not_found(
    client: Client, front_end: FrontEnd, device: Device, bob: str
) -> None:
    linked = (await front_end.link(device.access)).body["identity"]
    response = await client.delete(f"{IDENTITIES}/{linked['id']}", token=bob)
    assert_error(response, 404, "not_found", {"identity": ["not found"]})


async def test_last_way_to_log_in_is_not_unlinked(
    client: Client, front_end: FrontEnd, device: Device, db: asyncpg.Connection
) -> None:
    linked = (await front_end.link(device.access)).body["identity"]
    await remove_passwords(db)
    response = await client.delete(f"{IDENTITIES}/{linked['id']}", token=device.access)
    expected = {"identity": ["is the only way to log in"]}
    assert_error(response, 409, "last_sign_in_method", expected)


async def test_identity_of_a_removed_provider_is_no_way_to_log_in(
    make_client: MakeClient, issuer: Issuer, other_issuer: Issuer, db: asyncpg.Connection
) -> None:
    both = await make_client(
        oidc_providers=settings_of(issuer, other_issuer), redirect_urls=(FRONT_END,)
    )
    device = await both.open_account("alice")
    await verify(db)
    linked = (await FrontEnd(both, issuer).link(device.access)).body["identity"]
    assert (await FrontEnd(both, other_issuer, "other").link(device.access)).status == 200
    await remove_passwords(db)
    one = await make_client(oidc_providers=settings_of(issuer), redirect_urls=(FRONT_END,))
    listed = (await one.get(IDENTITIES, token=device.access)).body["identities"]
    assert [identity["provider"] for identity in listed] == ["issuer", None]
    response = await one.delete(f"{IDENTITIES}/{linked['id']}", token=device.access)
    assert response.body["code"] == "last_sign_in_method"
    assert (await both.delete(f"{IDENTITIES}/{linked['id']}", token=device.access)).status == 204


async def test_of_simultaneous_unlinks_one_way_to_log_in_stays(
    make_client: MakeClient, issuer: Issuer, other_issuer: Issuer, db: asyncpg.Connection
) -> None:
    client = await make_client(
        oidc_providers=settings_of(issuer, other_issuer), redirect_urls=(FRONT_END,)
    )
    device = await client.open_account("alice")
    await verify(db)
    ids = [
        (await FrontEnd(client, each, each.name).link(device.access)).body["identity"]["id"]
        for each in (issuer, other_issuer)
    ]
    await remove_passwords(db)
    responses = await asyncio.gather(
        *(client.delete(f"{IDENTITIES}/{each}", token=device.access) for each in ids)
    )
    assert Counter(response.status for response in responses) == {204: 1, 409: 1}


async def test_unlinking_can_end_the_other_sessions(
    client: Client, front_end: FrontEnd, device: Device
) -> None:
    linked = (await front_end.link(device.access)).body["identity"]
    other = device_of(await front_end.sign_in())
    path = f"{IDENTITIES}/{linked['id']}?end_other_sessions=true"
    assert (await client.delete(path, token=device.access)).status == 204
    assert not await client.is_authenticated(other.access)
    assert await client.is_authenticated(device.access)


async def test_report_removes_the_identity_of_its_notice(
    client: Client, front_end: FrontEnd, device: Device, db: asyncpg.Connection
) -> None:
    """A thief has linked an identity. The owner uses the link "This was not me"."""
    assert (await front_end.link(device.access)).status == 200
    token = await last_token(db, ALICE, "identity_added")
    assert (await client.post(REPORT, {"token": token})).status == 200
    assert await db.fetchval("select count(*) from identities") == 0


async def test_report_of_an_earlier_notice_removes_the_identity(
    client: Client, front_end: FrontEnd, device: Device, db: asyncpg.Connection
) -> None:
    change = {"user": {"password": "a stolen secret"}}
    assert (await client.put("/api/user", change, token=device.access)).status == 200
    assert (await front_end.link(device.access)).status == 200
    token = await last_token(db, ALICE, "password_changed")
    assert (await client.post(REPORT, {"token": token})).status == 200
    assert await db.fetchval("select count(*) from identities") == 0


async def test_report_of_a_later_notice_keeps_the_identity(
    client: Client, front_end: FrontEnd, device: Device, db: asyncpg.Connection
) -> None:
    assert (await front_end.link(device.access)).status == 200
    change = {"user": {"password": "a stolen secret"}}
    assert (await client.put("/api/user", change, token=device.access)).status == 200
    token = await last_token(db, ALICE, "password_changed")
    assert (await client.post(REPORT, {"token": token})).status == 200
    assert await db.fetchval("select count(*) from identities") == 1
