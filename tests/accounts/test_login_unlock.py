"""The login that is locked after many failures in a row, and the mailed link that unlocks it."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from service.accounts.passwords.hasher import PASSWORDS
from service.database import pool
from service.settings.rate_limit import NO_LIMIT, Limit
from tests.accounts.mailed_links import (
    BAD_TOKENS,
    BROWSER,
    FORGOT,
    RESET,
    UNKNOWN_TOKEN,
    UNLOCK,
    VERIFY,
    client_without_delivery,
    last_token,
    links,
    open_page,
    submit,
)
from tests.conftest import Client, Device, MakeClient, Response, until_blocked
from tests.responses import assert_error

EMAIL = "alice@example.test"
HOME = "192.0.2.1"
"""The IP address where Alice registers, which is known."""
STRANGER = "203.0.113.9"
HIGH = Limit(10_000, 900)
WRONG = {"errors": {"credentials": ["invalid"]}, "code": "invalid_credentials"}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    """Return a client behind one proxy of a service that locks a login after five failures."""
    return await client_without_delivery(
        make_client,
        trusted_proxies=1,
        consecutive_failure_limit=5,
        # Attempts are counted, but none is rejected.
        login_limits=(HIGH, HIGH, HIGH),
    )


@pytest.fixture
async def alice(client: Client) -> Device:
    user = {"username": "alice", "email": EMAIL, "password": "alice-secret"}
    response = await client.post("/api/users", {"user": user}, headers=at(HOME))
    return Device.of(response)


def at(ip: str) -> dict[str, str]:
    return {"X-Forwarded-For": ip}


async def attempt(client: Client, password: str, ip: str = STRANGER) -> int:
    user = {"email": EMAIL, "password": password}
    response = await client.post("/api/users/login", {"user": user}, headers=at(ip))
    return response.status


async def fail(client: Client, times: int, ip: str = STRANGER) -> None:
    for _ in range(times):
        assert await attempt(client, "wrong", ip) == 401


async def unlock_token(db: asyncpg.Connection) -> str:
    return await last_token(db, EMAIL, "unlock_login")


async def count_mails(db: asyncpg.Connection) -> int:
    return len(await links(db, EMAIL, "unlock_login"))


async def test_login_works_after_one_failure_less_than_the_limit(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    await fail(client, 4)
    assert await attempt(client, "alice-secret") == 200
    assert await count_mails(db) == 0


async def test_login_is_locked_after_failures_in_a_row_and_the_owner_gets_one_mail(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    await fail(client, 5)
    assert await count_mails(db) == 1
    user = {"email": EMAIL, "password": "alice-secret"}
    response = await client.post("/api/users/login", {"user": user}, headers=at(STRANGER))
    assert (response.status, response.body) == (401, WRONG)
    await fail(client, 5)
    assert await count_mails(db) == 1
    assert await client.is_authenticated(alice.access)


async def test_locked_login_responds_like_an_unknown_email(client: Client, alice: Device) -> None:
    await fail(client, 6)
    responses: list[Response] = []
    for email in (EMAIL, "nobody@example.test"):
        for password in ("wrong", "alice-secret"):
            user = {"email": email, "password": password}
            responses.append(await client.post("/api/users/login", {"user": user}))
    assert [response.status for response in responses] == [401] * 4
    assert all(response.body == WRONG for response in responses)
    names = [sorted(response.headers) for response in responses]
    assert names == [names[0]] * 4


async def test_success_begins_a_new_count(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    for _ in range(3):
        await fail(client, 4)
        assert await attempt(client, "alice-secret", HOME) == 200
    assert await count_mails(db) == 0


async def test_known_ip_is_exempt(client: Client, alice: Device, db: asyncpg.Connection) -> None:
    await fail(client, 20, HOME)
    assert await count_mails(db) == 0
    await fail(client, 5)
    assert await attempt(client, "alice-secret") == 401
    assert await attempt(client, "alice-secret", HOME) == 200
    assert await attempt(client, "alice-secret") == 200, "a success begins a new count"


async def test_right_password_at_a_locked_login_is_logged_for_the_owner(
    client: Client, alice: Device
) -> None:
    await fail(client, 5)
    assert await attempt(client, "alice-secret") == 401
    events = (await client.get("/api/user/events?limit=2", token=alice.access)).body["events"]
    assert [event["kind"] for event in events] == ["sign_in_denied", "sign_in_failed"]


async def test_lock_can_be_disabled(make_client: MakeClient, db: asyncpg.Connection) -> None:
    limits = {"login_limits": (NO_LIMIT, NO_LIMIT, NO_LIMIT), "trusted_proxies": 1}
    client = await client_without_delivery(make_client, consecutive_failure_limit=0, **limits)
    await client.register("alice")
    await fail(client, 3)
    assert await db.fetchval("select count(*) from consecutive_failures") == 0
    assert await attempt(client, "alice-secret") == 200


async def test_unknown_email_leaves_no_row(client: Client, db: asyncpg.Connection) -> None:
    await fail(client, 6)
    assert await db.fetchval("select count(*) from consecutive_failures") == 0
    assert await db.fetchval("select count(*) from outbox") == 0


async def test_wrong_passwords_of_a_stolen_token_count(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    guess = {"password": "wrong"}
    for _ in range(5):
        response = await client.post(
            "/api/auth/reauthenticate", guess, token=alice.access, headers=at(STRANGER)
        )
        assert response.status == 401
    assert await count_mails(db) == 1


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


async def test_another_mail_is_queued_with_a_later_attempt(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    await fail(client, 5)
    await db.execute("update consecutive_failures set mailed_at = now() - interval '2 hours'")
    assert await attempt(client, "alice-secret") == 401
    assert await count_mails(db) == 2


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


async def test_concurrent_failures_are_counted_exactly(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    results = await asyncio.gather(*(attempt(client, "wrong") for _ in range(30)))
    assert set(results) == {401}
    assert await db.fetchval("select failures from consecutive_failures") == 30
    assert await count_mails(db) == 1


async def test_right_password_among_concurrent_guesses_is_rejected_once_the_login_is_locked(
    client: Client, alice: Device, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guess is verified before, and recorded after the failures that lock the login."""
    verified, go_on = asyncio.Event(), asyncio.Event()
    app = client.http.app
    assert app is not None

    verify = app[PASSWORDS].verify

    async def verify_and_wait(password: str, *arguments: Any) -> bool:
        matches: bool = await verify(password, *arguments)
        if matches:
            verified.set()
            await go_on.wait()
        return matches

    monkeypatch.setattr(app[PASSWORDS], "verify", verify_and_wait)
    guess = asyncio.create_task(attempt(client, "alice-secret"))
    await verified.wait()
    await fail(client, 5)
    go_on.set()
    assert await guess == 401
    assert await db.fetchval("select failures from consecutive_failures") == 6


@pytest.mark.parametrize(
    ("ip", "limit"), [(STRANGER, 5), (HOME, 5), (STRANGER, 0)], ids=["unknown", "known", "no-limit"]
)
async def test_lockout_and_reset_at_the_same_time_do_not_deadlock(
    make_client: MakeClient,
    db: asyncpg.Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    ip: str,
    limit: int,
) -> None:
    """Both lock the user before the counter of the account at the IP address."""
    monkeypatch.setattr(pool, "CONFLICTS", ())  # No retry: a deadlock is a 500.
    client = await client_without_delivery(
        make_client,
        trusted_proxies=1,
        consecutive_failure_limit=limit,
        login_limits=(Limit(2, 900), HIGH, HIGH),
    )
    user = {"username": "alice", "email": EMAIL, "password": "alice-secret"}
    assert (await client.post("/api/users", {"user": user}, headers=at(HOME))).status == 200
    await fail(client, 1, ip)
    await client.post(FORGOT, {"email": EMAIL})
    token = await last_token(db, EMAIL, "reset_password")
    body = {"token": token, "new_password": "another secret"}
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("select from users for no key update")
            reset = asyncio.create_task(client.post(RESET, body, headers=at(ip)))
            await until_blocked(db, 1)
            lockout = asyncio.create_task(attempt(client, "wrong", ip))
            await until_blocked(db, 2)
    finally:
        await other.close()
    assert ((await reset).status, await lockout) == (200, 401)
