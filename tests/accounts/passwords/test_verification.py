"""Verification of passwords, and the renewal of their hashes."""

import asyncio
import threading
from typing import Any

import asyncpg
import pytest

import sql
from service.accounts.passwords.verification import CREDENTIAL_VERIFIER, requester_of
from service.accounts.throttling.login_attempts import unknown_account_id
from service.http.client import Client as HttpClient
from service.http.errors import Unauthorized
from service.settings.rate_limit import NO_LIMIT
from tests.accounts.conftest import hasher_of, hold_workers, until
from tests.conftest import Client, Device, MakeClient
from tests.responses import assert_error

EMAIL, PASSWORD = "alice@example.test", "alice-secret"
CREDENTIALS = {"user": {"email": EMAIL, "password": PASSWORD}}
UNLIMITED = {"login_limits": (NO_LIMIT, NO_LIMIT, NO_LIMIT)}


async def stored_hash(db: asyncpg.Connection) -> str:
    """Return the password hash of the only user."""
    return str(await db.fetchval("select password_hash from users"))


async def test_verify_credentials_needs_no_request(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    verifier = client.http.app[CREDENTIAL_VERIFIER]
    user_id = await db.fetchval("select id from users")
    caller = HttpClient.at("203.0.113.9", "curl/8.5.0")
    row = await verifier.verify_credentials(caller, user_id, PASSWORD)
    assert (row["id"], row["email"], row["password_version"]) == (user_id, EMAIL, 0)
    with pytest.raises(Unauthorized):
        await verifier.verify_credentials(caller, user_id, "wrong")
    event = await db.fetchrow("select * from events where kind = 'sign_in_failed'")
    assert (event["user_id"], event["ip"], event["user_agent"]) == (
        user_id,
        "203.0.113.9",
        "curl/8.5.0",
    )


@pytest.mark.parametrize("account", ["known", "unknown"])
async def test_failure_writes_the_same_events_whether_or_not_the_account_exists(
    client: Client, alice: str, db: asyncpg.Connection, account: str
) -> None:
    verifier = client.http.app[CREDENTIAL_VERIFIER]
    user_id = await db.fetchval("select id from users")
    account_id = user_id if account == "known" else unknown_account_id("nobody@example.test")
    for _ in range(5):
        with pytest.raises(Unauthorized):
            await verifier.verify_credentials(HttpClient.at("203.0.113.9"), account_id, "wrong")
    events = await db.fetch("select user_id, kind from events where kind <> 'registered'")
    expected_id = user_id if account == "known" else None
    assert {event["user_id"] for event in events} == {expected_id}
    assert [event["kind"] for event in events] == ["sign_in_failed"] * 5 + ["throttled"]


@pytest.mark.parametrize(
    ("ip", "ip_key"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("", "")],
)
def test_requester_is_the_ipv4_address_or_the_ipv6_network_of_48_bits(ip: str, ip_key: str) -> None:
    account_id = unknown_account_id("alice@example.test")
    assert requester_of(HttpClient.at(ip), account_id) == (ip_key, account_id)


async def test_login_gets_the_same_response_for_a_wrong_password_and_an_unknown_email(
    dialect_client: Client,
) -> None:
    await dialect_client.register("alice")
    wrong, unknown = [
        await dialect_client.post(
            "/api/users/login", {"user": {"email": email, "password": "not the password"}}
        )
        for email in (EMAIL, "nobody@example.test")
    ]
    assert_error(wrong, 401, "invalid_credentials", {"credentials": ["invalid"]})
    assert wrong.headers["WWW-Authenticate"] == "Token"
    assert (unknown.status, unknown.body) == (wrong.status, wrong.body)
    assert list(unknown.headers) == list(wrong.headers)
    assert unknown.headers["Content-Length"] == wrong.headers["Content-Length"]


async def test_login_ignores_the_case_of_the_email(client: Client) -> None:
    await client.register("alice")
    credentials = {"email": "ALICE@Example.TEST", "password": PASSWORD}
    response = await client.post("/api/users/login", {"user": credentials})
    assert (response.status, response.body["user"]["email"]) == (200, EMAIL)


async def test_login_respects_the_case_of_the_password(client: Client) -> None:
    await client.register("alice")
    credentials = {"email": EMAIL, "password": "ALICE-SECRET"}
    response = await client.post("/api/users/login", {"user": credentials})
    assert_error(response, 401, "invalid_credentials", {"credentials": ["invalid"]})


async def test_deletion_requires_the_password(
    dialect_client: Client, db: asyncpg.Connection
) -> None:
    token = await dialect_client.register("alice")
    response = await dialect_client.delete(
        "/api/user", {"user": {"password": "wrong"}}, token=token
    )
    assert_error(response, 401, "invalid_credentials", {"credentials": ["invalid"]})
    assert await db.fetchval("select count(*) from users") == 1
    assert (await dialect_client.get("/api/user", token=token)).status == 200


async def test_login_renews_the_hash_when_its_cost_is_not_the_current_one(
    make_client: MakeClient, client: Client, db: asyncpg.Connection
) -> None:
    await client.register("alice")
    before = await stored_hash(db)
    assert before.startswith("$2b$04$")
    later = await make_client(bcrypt_cost=5)
    wrong = {"email": EMAIL, "password": "not the password"}
    assert (await later.post("/api/users/login", {"user": wrong})).status == 401
    assert await stored_hash(db) == before

    right = {"email": EMAIL, "password": PASSWORD}
    assert (await later.post("/api/users/login", {"user": right})).status == 200
    renewed = await stored_hash(db)
    assert renewed.startswith("$2b$05$")
    assert (await later.post("/api/users/login", {"user": right})).status == 200
    # A current hash is kept: the login does not write to the row.
    assert await stored_hash(db) == renewed


async def test_login_succeeds_without_a_renewal_when_the_hash_queue_is_full(
    make_client: MakeClient,
    client: Client,
    alice: str,
    db: asyncpg.Connection,
    gate: threading.Event,
) -> None:
    later = await make_client(bcrypt_cost=5, password_queue_size=0)
    hasher = hasher_of(later)
    before = await stored_hash(db)
    # All threads but one are busy. That one becomes busy as soon as it has verified the password.
    jobs = hold_workers(hasher, gate, leave=1)
    await asyncio.sleep(0)
    verify, taken = hasher.verify, []

    async def verify_and_fill(*arguments: Any) -> bool:
        result = await verify(*arguments)
        await until(lambda: hasher.queue.running < hasher.queue.threads)
        taken.extend(hold_workers(hasher, gate, leave=hasher.queue.running))
        await asyncio.sleep(0)
        return result

    hasher.verify = verify_and_fill  # type: ignore[assignment, method-assign]
    response = await later.post("/api/users/login", CREDENTIALS)
    gate.set()
    await asyncio.gather(*jobs, *taken)
    assert response.status == 200
    assert await stored_hash(db) == before


async def test_concurrent_logins_succeed_when_all_renew_the_hash(make_client: MakeClient) -> None:
    before = await make_client()
    await before.open_account("alice")
    client = await make_client(bcrypt_cost=5)
    responses = await asyncio.gather(
        *(client.post("/api/users/login", CREDENTIALS) for _ in range(10))
    )
    assert [response.status for response in responses] == [200] * 10
    for response in responses:
        assert await client.is_authenticated(Device.of(response).access)


async def test_logins_succeed_when_processes_have_different_costs(
    make_client: MakeClient,
) -> None:
    """During the rollout of a new cost each process renews the hashes of the other."""
    clients = [await make_client(bcrypt_cost=cost, **UNLIMITED) for cost in (4, 5)]
    await clients[0].open_account("alice")
    for _ in range(5):
        logins = (client.post("/api/users/login", CREDENTIALS) for client in clients * 4)
        assert [response.status for response in await asyncio.gather(*logins)] == [200] * 8


async def test_deletion_succeeds_when_a_login_renews_the_hash(make_client: MakeClient) -> None:
    before, client = await make_client(**UNLIMITED), await make_client(bcrypt_cost=5, **UNLIMITED)
    for _ in range(5):
        here = await before.open_account("alice")
        deleted, *_ = await asyncio.gather(
            before.delete("/api/user", CREDENTIALS, token=here.access),
            client.post("/api/users/login", CREDENTIALS),
            client.post("/api/users/login", CREDENTIALS),
        )
        assert deleted.status == 204


async def test_renewal_keeps_a_password_that_was_changed_since(
    client: Client, db: asyncpg.Connection
) -> None:
    here = await client.open_account("alice")
    (old,) = await db.fetch("select id, password_hash from users")
    change = {"user": {"password": "another secret"}}
    assert (await client.put("/api/user", change, token=here.access)).status == 200
    await sql.users.renew_password_hash(
        db, id=old["id"], old_hash=old["password_hash"], new_hash="of the old password"
    )
    await client.sign_in("alice", "another secret")
