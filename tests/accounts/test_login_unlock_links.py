"""The mailed link that unlocks a login."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from service.settings.rate_limit import Limit
from tests.accounts.locked_logins import (
    EMAIL,
    HIGH,
    HOME,
    STRANGER,
    at,
    attempt,
    client_that_locks,
    count_mails,
    fail,
    register_alice,
    unlock_token,
)
from tests.accounts.mailed_links import (
    BAD_TOKENS,
    BROWSER,
    CONFIRM_CHANGE,
    FORGOT,
    RESET,
    UNKNOWN_TOKEN,
    UNLOCK,
    VERIFY,
    last_token,
    open_page,
    submit,
)
from tests.conftest import Client, Device, MakeClient
from tests.responses import assert_error


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_that_locks(make_client)


@pytest.fixture
async def alice(client: Client) -> Device:
    return await register_alice(client)


async def test_link_unlocks_the_login_and_makes_the_ip_known(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    await fail(client, 5)
    token = await unlock_token(db)
    response = await client.post(UNLOCK, {"token": token}, headers=at("198.51.100.7"))
    assert (response.status, set(response.body)) == (200, {"message"})
    await fail(client, 5)
    assert await attempt(client, "alice-secret", "198.51.100.7") == 200
    kinds = [row["kind"] for row in await db.fetch("select kind from events order by id")]
    assert kinds.count("login_unlocked") == 1


async def test_reset_unlocks_the_login(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    await fail(client, 5)
    await client.post(FORGOT, {"email": EMAIL})
    token = await last_token(db, EMAIL, "reset_password")
    body = {"token": token, "new_password": "another secret"}
    assert (await client.post(RESET, body)).status == 200
    assert await attempt(client, "another secret") == 200
    used = await client.post(UNLOCK, {"token": await unlock_token(db)})
    assert used.status == 404, "a reset revokes the other links"


async def test_owner_logs_in_with_the_link_while_strangers_go_on(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    """The strangers have reached the limit of the account in an hour, too."""
    client = await client_that_locks(make_client, login_limits=(HIGH, HIGH, Limit(6, 3600)))
    await register_alice(client)
    await db.execute("delete from known_ips")
    await fail(client, 6)
    assert await attempt(client, "alice-secret", HOME) == 429
    response = await client.post(UNLOCK, {"token": await unlock_token(db)}, headers=at(HOME))
    assert response.status == 200
    assert await attempt(client, "wrong") == 429
    assert await attempt(client, "alice-secret", HOME) == 200


async def test_password_change_unlocks_the_login(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    """It revokes the links in the mails."""
    await fail(client, 5)
    token = await unlock_token(db)
    change = {"user": {"password": "another secret"}}
    response = await client.put("/api/user", change, token=alice.access, headers=at(HOME))
    assert response.status == 200
    assert (await client.post(UNLOCK, {"token": token})).status == 404
    assert await attempt(client, "another secret") == 200


@pytest.mark.parametrize("strict", [False, True], ids=["confirmed", "strict"])
async def test_email_change_makes_another_mail_due(
    make_client: MakeClient, db: asyncpg.Connection, strict: bool
) -> None:
    """It revokes the links to the old email. The next failure sends one to the new email."""
    client, new = await client_that_locks(make_client, realworld_strict=strict), "new@example.test"
    user = {"username": "alice", "email": EMAIL, "password": "alice-secret"}
    response = await client.post("/api/users", {"user": user}, headers=at(HOME))
    await fail(client, 5)
    token = await unlock_token(db)
    change = {"user": {"email": new}}
    access = Device.of(response).access
    assert (await client.put("/api/user", change, token=access, headers=at(HOME))).status == 200
    if not strict:
        confirmation = {"token": await last_token(db, new, "change_email")}
        assert (await client.post(CONFIRM_CHANGE, confirmation)).status == 200
    assert (await client.post(UNLOCK, {"token": token})).status == 404
    assert await attempt(client, "alice-secret", email=new) == 401
    assert (await client.post(UNLOCK, {"token": await unlock_token(db, new)})).status == 200
    assert await attempt(client, "alice-secret", "127.0.0.1", new) == 200


async def test_link_adds_its_ip_to_the_ten_latest_known_ones(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    await db.execute(
        "insert into known_ips select id, 'a' || n, now() - n * interval '1 day'"
        " from users, generate_series(1, 9) as n"
    )
    await fail(client, 5)
    response = await client.post(UNLOCK, {"token": await unlock_token(db)}, headers=at(STRANGER))
    assert response.status == 200
    rows = await db.fetch("select ip_key from known_ips order by last_seen desc")
    assert [row["ip_key"] for row in rows] == [STRANGER, HOME, *(f"a{n}" for n in range(1, 9))]


async def test_another_mail_is_queued_with_a_later_attempt(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    await fail(client, 5)
    for hours, mails in ((11, 1), (13, 2)):
        earlier = "update consecutive_failures set mailed_at = now() - make_interval(hours => $1)"
        await db.execute(earlier, hours)
        assert await attempt(client, "alice-secret") == 401
        assert await count_mails(db) == mails


async def test_opening_the_page_uses_no_token(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    await fail(client, 5)
    token = await unlock_token(db)
    for _ in range(2):
        page = await open_page(client, UNLOCK, token)
        assert page.status == 200
        async with client.http.head(UNLOCK, params={"token": token}) as head:
            assert head.status == 200
    assert EMAIL in page.body and "5 failed logins" in page.body
    assert "<script" not in page.body and "$" not in page.body
    assert await attempt(client, "alice-secret") == 401
    response = await submit(client, UNLOCK, token=token)
    assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert await attempt(client, "alice-secret") == 200


@pytest.mark.parametrize("body", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_unlock_without_a_token_is_invalid(client: Client, body: dict[str, Any]) -> None:
    assert (await client.post(UNLOCK, body)).status == 400
    assert (await client.get(UNLOCK, headers=BROWSER)).status == 400


async def test_token_of_another_purpose_is_unknown_and_stays_unused(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    await fail(client, 5)
    verify = await last_token(db, EMAIL)
    for token in (verify, UNKNOWN_TOKEN):
        response = await client.post(UNLOCK, {"token": token})
        assert_error(response, 404, "not_found", {"token": ["not found"]})
    assert (await client.post(VERIFY, {"token": await unlock_token(db)})).status == 404
    assert (await client.post(VERIFY, {"token": verify})).status == 200
    assert (await client.post(UNLOCK, {"token": await unlock_token(db)})).status == 200


async def test_expired_link_is_gone(client: Client, alice: Device, db: asyncpg.Connection) -> None:
    await fail(client, 5)
    await db.execute("update one_time_tokens set expires_at = now() - interval '1 minute'")
    response = await client.post(UNLOCK, {"token": await unlock_token(db)})
    assert_error(response, 410, "link_expired", {"token": ["has expired"]})


async def test_one_of_concurrent_uses_of_a_link_succeeds(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    await fail(client, 5)
    token = await unlock_token(db)
    uses = (client.post(UNLOCK, {"token": token}) for _ in range(20))
    assert Counter([response.status for response in await asyncio.gather(*uses)]) == {
        200: 1,
        404: 19,
    }
