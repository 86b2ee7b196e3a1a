"""Challenges for passkeys, their limits, and the counters of passkeys."""

import asyncpg

from service.accounts.cleanup import clean_up
from service.database.pool import DATABASE
from service.settings.rate_limit import Limit
from tests.accounts.logins import HERE
from tests.accounts.passkeys.authenticator import Authenticator
from tests.accounts.passkeys.passkeys import (
    LOGIN,
    LOGIN_OPTIONS,
    add_passkey,
    creation_options,
    kinds_of_events,
    log_in,
    request_options,
)
from tests.conftest import Client, MakeClient
from tests.responses import assert_error

INVALID_CHALLENGE = {"challenge": ["is invalid"]}


async def test_passkey_that_counts_must_count_up(client: Client, alice: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    assert (await log_in(client, authenticator)).status == 200
    authenticator.counter = 9
    assert (await log_in(client, authenticator)).status == 200
    for counter in (9, 8, 0):
        # The next response has this counter.
        authenticator.counter = counter - 1 if counter else 0
        authenticator.has_counter = counter > 0
        response = await log_in(client, authenticator)
        assert_error(response, 401, "passkey_invalid", {"passkey": ["cannot be verified"]})
        assert (await kinds_of_events(client, alice))[0] == "passkey_counter_went_back"
    authenticator.counter, authenticator.has_counter = 10, True
    assert (await log_in(client, authenticator)).status == 200


async def test_passkey_that_does_not_count_logs_in_again_and_again(
    client: Client, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice, has_counter=False)
    for _ in range(3):
        assert (await log_in(client, authenticator)).status == 200
    authenticator.has_counter, authenticator.counter = True, 4_294_967_294
    assert (await log_in(client, authenticator)).status == 200


async def test_challenge_is_used_once(client: Client, alice: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    options = await request_options(client)
    first, second = authenticator.get(options), authenticator.get(options)
    assert (await client.post(LOGIN, {"credential": first})).status == 200
    for credential in (first, second):
        response = await client.post(LOGIN, {"credential": credential})
        assert_error(response, 401, "challenge_invalid", INVALID_CHALLENGE)


async def test_challenge_is_used_by_an_invalid_response_too(client: Client, alice: str) -> None:
    authenticator, _ = await add_passkey(client, alice)
    options = await request_options(client)
    forged = authenticator.get(options, signature=b"x")
    assert (await client.post(LOGIN, {"credential": forged})).body["code"] == "passkey_invalid"
    response = await client.post(LOGIN, {"credential": authenticator.get(options)})
    assert_error(response, 401, "challenge_invalid", INVALID_CHALLENGE)


async def test_expired_challenge_is_invalid(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    options = await request_options(client)
    await db.execute("update one_time_tokens set expires_at = now() - interval '1 minute'")
    response = await client.post(LOGIN, {"credential": authenticator.get(options)})
    assert_error(response, 401, "challenge_invalid", INVALID_CHALLENGE)


async def test_challenge_of_a_registration_is_unknown_at_a_login(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    authenticator, _ = await add_passkey(client, alice)
    options = await request_options(client)
    options["challenge"] = (await creation_options(client, alice))["challenge"]
    response = await client.post(LOGIN, {"credential": authenticator.get(options)})
    assert_error(response, 401, "challenge_invalid", INVALID_CHALLENGE)
    unused = "select count(*) from one_time_tokens where purpose = $1 and used_at is null"
    assert await db.fetchval(unused, "passkey_registration") == 1


async def test_each_ip_address_has_a_limit(make_client: MakeClient) -> None:
    client = await make_client(passkey_limit=Limit(2, 3600), trusted_proxies=1)
    here, elsewhere = {"X-Forwarded-For": HERE}, {"X-Forwarded-For": "198.51.100.1"}
    options = [await request_options(client, headers=here) for _ in range(2)]
    too_many = {"passkey": ["too many attempts"]}
    response = await client.post(LOGIN_OPTIONS, headers=here)
    assert_error(response, 429, "too_many_attempts", too_many)
    assert 0 < int(response.headers["Retry-After"]) <= 3600
    await request_options(client, headers=elsewhere)
    for challenge, expected in ((options[0], 401), (options[1], 401), (options[1], 429)):
        credential = Authenticator(user_handle=b"x").get(challenge)
        response = await client.post(LOGIN, {"credential": credential}, headers=here)
        assert response.status == expected
    assert_error(response, 429, "too_many_attempts", too_many)


async def test_expired_challenges_are_deleted(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    for _ in range(3):
        await request_options(client)
    await db.execute("update one_time_tokens set expires_at = now() - interval '1 hour'")
    await request_options(client)
    await creation_options(client, alice)
    app = client.http.app
    assert app is not None
    await clean_up(app[DATABASE], client.settings)
    count = "select count(*) from one_time_tokens where purpose = $1"
    assert await db.fetchval(count, "passkey_login") == 1
    assert await db.fetchval(count, "passkey_registration") == 1
