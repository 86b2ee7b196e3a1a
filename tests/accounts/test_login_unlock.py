"""The login that is locked after many failures in a row."""

import asyncio
from typing import Any

import asyncpg
import bcrypt
import pytest

from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.throttling.login_attempts import LOGIN_ATTEMPTS
from service.database import pool
from service.http.client import Client as HttpClient
from service.settings.rate_limit import NO_LIMIT, Limit
from service.settings.settings import Settings
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
)
from tests.accounts.mailed_links import FORGOT, RESET, client_without_delivery, last_token
from tests.conftest import Client, Device, MakeClient, Response, until_blocked

WRONG = {"errors": {"credentials": ["invalid"]}, "code": "invalid_credentials"}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_that_locks(make_client)


@pytest.fixture
async def alice(client: Client) -> Device:
    return await register_alice(client)


async def test_login_works_after_one_failure_less_than_the_limit(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    await fail(client, 4)
    assert await attempt(client, "alice-secret") == 200
    assert await count_mails(db) == 0


async def test_the_hundredth_failure_locks_the_login_by_default(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    limit = Settings().consecutive_failure_limit
    assert limit == 100
    client = await client_that_locks(make_client, consecutive_failure_limit=limit)
    await register_alice(client)
    await fail(client, 99)
    assert await attempt(client, "alice-secret") == 200
    await db.execute("delete from known_ips where ip_key = $1", STRANGER)
    await fail(client, 99)
    assert await count_mails(db) == 0
    await fail(client, 1)
    assert await attempt(client, "alice-secret") == 401
    assert await count_mails(db) == 1


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


async def test_guess_at_a_locked_login_takes_the_same_rounds_if_it_is_right(
    make_client: MakeClient, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stored hash has a lower cost than the current one, so that a rejection takes longer."""
    await register_alice(await client_that_locks(make_client))
    client = await client_that_locks(make_client, bcrypt_cost=6)
    await fail(client, 5)
    costs: list[bytes] = []
    hash_password = bcrypt.hashpw

    def recorded(password: bytes, salt: bytes) -> bytes:
        costs.append(salt[4:6])
        return hash_password(password, salt)

    monkeypatch.setattr(bcrypt, "hashpw", recorded)
    for password in ("wrong", "alice-secret"):
        costs.clear()
        assert await attempt(client, password) == 401
        assert costs == [b"04", b"05"]


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


async def test_concurrent_failures_are_counted_exactly(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    results = await asyncio.gather(*(attempt(client, "wrong") for _ in range(100)))
    assert set(results) == {401}
    assert await db.fetchval("select failures from consecutive_failures") == 100
    assert await count_mails(db) == 1


@pytest.mark.parametrize("two_factor", [False, True], ids=["one factor", "two factors"])
async def test_right_password_among_concurrent_guesses_is_rejected_once_the_login_is_locked(
    client: Client,
    alice: Device,
    db: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    two_factor: bool,
) -> None:
    """The guess is verified before, and recorded after the failures that lock the login.

    A challenge of the second factor would reveal that the guess was right.
    """
    if two_factor:
        await db.execute("update users set two_factor_since = now()")
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


async def test_failure_is_counted_when_its_events_cannot_be_written(
    client: Client, alice: Device, db: asyncpg.Connection
) -> None:
    """No mail is queued then. It is due with the next failure."""
    app = client.http.app
    assert app is not None
    user_id = await db.fetchval("select id from users")

    async def break_down(*_: object) -> None:
        raise RuntimeError

    for _ in range(5):
        with pytest.raises(RuntimeError):
            async with app[LOGIN_ATTEMPTS].admit(user_id, HttpClient.at(STRANGER)) as guess:
                await guess.record_failure(break_down)
    assert await attempt(client, "alice-secret") == 401
    assert await db.fetchval("select failures from consecutive_failures") == 6
    assert await count_mails(db) == 1


async def test_lockout_that_locks_the_login_sends_one_mail(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_that_locks(make_client, login_limits=(HIGH, HIGH, Limit(5, 900)))
    await register_alice(client)
    await fail(client, 5)
    assert await attempt(client, "alice-secret") == 429
    mails = await db.fetch("select template from outbox where template ~ 'lock'")
    assert [mail["template"] for mail in mails] == ["unlock_login"]


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
    client = await client_that_locks(
        make_client, consecutive_failure_limit=limit, login_limits=(Limit(2, 900), HIGH, HIGH)
    )
    await register_alice(client)
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
