"""The exchange of the code that a front-end gets."""

import asyncio
from collections import Counter

import asyncpg
import pytest

from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, device_of, settings_of
from tests.accounts.identity_providers.issuer import Issuer
from tests.conftest import Client, MakeClient, until_blocked
from tests.responses import assert_error

INVALID = (401, "provider_code_invalid", {"code": ["is invalid"]})
EXCHANGE = "/api/auth/oauth/exchange"


async def events(db: asyncpg.Connection) -> list[str]:
    return [row["kind"] for row in await db.fetch("select kind from events order by id")]


async def test_code_opens_a_session(client: Client, issuer: Issuer) -> None:
    response = await FrontEnd(client, issuer).sign_in()
    device = device_of(response)
    assert set(response.body) == {"user", "refresh_token", "expires_in"}
    assert await client.is_authenticated(device.access)
    assert (await client.refresh(device.refresh)).status == 200


async def test_code_needs_the_secret_of_the_front_end_that_began(
    client: Client, issuer: Issuer
) -> None:
    front_end, thief = FrontEnd(client, issuer), FrontEnd(client, issuer)
    code = await front_end.code()
    assert_error(await thief.exchange(code), *INVALID)
    # The theft uses nothing up.
    assert (await front_end.exchange(code)).status == 200


async def test_code_of_another_person_does_not_fit_the_secret_of_the_victim(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    """An attacker leads the victim to the front-end with a code of the attacker's account."""
    attacker, victim = FrontEnd(client, issuer), FrontEnd(client, issuer)
    code = await attacker.code()
    await victim.begin()
    assert_error(await victim.exchange(code), *INVALID)
    assert await db.fetchval("select count(*) from sessions") == 0


async def test_code_that_is_used_twice_is_invalid_and_ends_the_session(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    front_end = FrontEnd(client, issuer)
    code = await front_end.code()
    device = device_of(await front_end.exchange(code))
    assert_error(await front_end.exchange(code), *INVALID)
    assert not await client.is_authenticated(device.access)
    assert (await client.refresh(device.refresh)).status == 401
    assert (await events(db))[-1] == "provider_code_reused"


async def test_used_code_with_another_secret_ends_no_session(
    client: Client, issuer: Issuer
) -> None:
    front_end, thief = FrontEnd(client, issuer), FrontEnd(client, issuer)
    code = await front_end.code()
    device = device_of(await front_end.exchange(code))
    assert_error(await thief.exchange(code), *INVALID)
    assert await client.is_authenticated(device.access)


async def test_of_simultaneous_exchanges_no_session_stays_open(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    front_end = FrontEnd(client, issuer)
    for _ in range(5):
        code = await front_end.code()
        responses = await asyncio.gather(*(front_end.exchange(code) for _ in range(8)))
        assert Counter(response.status for response in responses) <= Counter({200: 1, 401: 8})
        assert await db.fetchval("select count(*) from sessions where ended_at is null") == 0


async def test_exchange_that_overtakes_the_first_one_makes_it_fail(
    client: Client, issuer: Issuer, db: asyncpg.Connection, database_url: str
) -> None:
    front_end = FrontEnd(client, issuer)
    device_of(await front_end.sign_in())
    code = await front_end.code()
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("select from users for update")
        first = asyncio.create_task(front_end.exchange(code))
        await until_blocked(db, 1)
        assert_error(await front_end.exchange(code), *INVALID)
    assert_error(await first, *INVALID)
    assert await db.fetchval("select count(*) from sessions where ended_at is null") == 1
    await other.close()


async def test_code_expires_after_60_seconds(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    front_end = FrontEnd(client, issuer)
    code = await front_end.code()
    await db.execute("update one_time_tokens set expires_at = expires_at - interval '61 s'")
    assert_error(await front_end.exchange(code), *INVALID)


async def test_profile_is_deleted_with_the_use_of_the_code(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    await FrontEnd(client, issuer).sign_in()
    query = "select data from one_time_tokens where purpose = 'provider_code'"
    assert "jake@example.test" not in await db.fetchval(query)


async def test_provider_that_was_removed_signs_in_no_person(
    client: Client, issuer: Issuer, make_client: MakeClient
) -> None:
    front_end = FrontEnd(client, issuer)
    code = await front_end.code()
    without = await make_client(redirect_urls=(FRONT_END,))
    front_end.client = without
    assert_error(await front_end.exchange(code), *INVALID)


async def test_token_of_another_purpose_is_unknown_and_stays_unused(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    front_end = FrontEnd(client, issuer)
    url = await front_end.begin()
    assert_error(await front_end.exchange(url.query["state"]), *INVALID)
    assert await db.fetchval("select count(*) from one_time_tokens where used_at is null") == 1


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"code": ["can't be blank"], "code_verifier": ["can't be blank"]}),
        (
            {"code": "x", "code_verifier": "a" * 42},
            {"code_verifier": ["must have 43 to 128 letters, digits and the characters -._~"]},
        ),
        (
            {"code": "a\0", "code_verifier": "a" * 43},
            {"code": ["has a character that is not allowed"]},
        ),
        ({"code": 1, "code_verifier": "a" * 43}, {"code": ["must be a string"]}),
    ],
)
async def test_invalid_body_is_a_clear_error(
    client: Client, body: dict[str, object], errors: dict[str, list[str]]
) -> None:
    assert_error(await client.post(EXCHANGE, body), 400, "invalid_input", errors)


async def test_session_limit_applies(make_client: MakeClient, issuer: Issuer) -> None:
    client = await make_client(
        oidc_providers=settings_of(issuer),
        redirect_urls=(FRONT_END,),
        session_limit=1,
        session_limit_policy="deny",
    )
    front_end = FrontEnd(client, issuer)
    assert (await front_end.sign_in()).status == 200
    assert (await front_end.sign_in()).body["code"] == "session_limit_reached"
