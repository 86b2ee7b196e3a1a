"""Where a user is known, so that nobody can lock him out there."""

import asyncpg

from tests.accounts.logins import ELSEWHERE, HERE, LOCKED, exhaust_account, login, statuses
from tests.conftest import Client, MakeClient


async def test_the_owner_gets_in_where_he_was_lately_and_nobody_elsewhere(
    proxied: Client, alice: str, db: asyncpg.Connection
) -> None:
    assert (await login(proxied, "alice", "alice-secret", address=HERE)).status == 200
    await exhaust_account(proxied, "alice")
    refused = await login(proxied, "alice", "alice-secret", address=ELSEWHERE)
    assert (refused.status, refused.body) == (429, LOCKED)
    assert (await login(proxied, "alice", "alice-secret", address=HERE)).status == 200
    await db.execute("update known_ips set last_seen = now() - interval '31 days'")
    assert (await login(proxied, "alice", "alice-secret", address=HERE)).status == 429


async def test_whoever_shares_the_owners_address_has_five_tries_and_locks_nobody_elsewhere(
    proxied: Client, alice: str, db: asyncpg.Connection
) -> None:
    assert (await login(proxied, "alice", "alice-secret", address=HERE)).status == 200
    for _ in range(11):
        guesses = (login(proxied, "alice", address=HERE) for _ in range(20))
        assert await statuses(*guesses) == {401: 5, 429: 15}
        await db.execute(
            "update throttle set ends_at = now() where ends_at < now() + interval '900 seconds'"
        )
    assert (await login(proxied, "alice", "alice-secret", address=ELSEWHERE)).status == 200


async def test_where_somebody_registered_nobody_locks_him_out(proxied: Client) -> None:
    user = {"username": "jake", "email": "jake@example.test", "password": "jake-secret"}
    headers = {"X-Forwarded-For": HERE}
    assert (await proxied.post("/api/users", {"user": user}, headers=headers)).status == 200
    await exhaust_account(proxied, "jake")
    assert (await login(proxied, "jake", "jake-secret", address=ELSEWHERE)).status == 429
    assert (await login(proxied, "jake", "jake-secret", address=HERE)).status == 200


async def test_a_session_in_use_keeps_its_address_known(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await db.execute("update known_ips set last_seen = now() - interval '29 days'")
    assert (await client.refresh(device.refresh)).status == 200
    assert await db.fetchval("select last_seen > now() - interval '1 day' from known_ips")
    await db.execute("delete from known_ips")
    assert (await client.post("/api/auth/logout", token=device.access)).status == 204
    assert await db.fetchval("select count(*) from known_ips") == 0


async def test_a_password_change_forgets_where_the_old_one_was_used(
    proxied: Client, alice: str, db: asyncpg.Connection
) -> None:
    assert (await login(proxied, "alice", "alice-secret", address=ELSEWHERE)).status == 200
    assert (await login(proxied, "alice", "alice-secret", address=HERE)).status == 200
    change = {"user": {"password": "another secret"}}
    headers = {"X-Forwarded-For": HERE}
    assert (await proxied.put("/api/user", change, token=alice, headers=headers)).status == 200
    assert await db.fetch("select ip_key from known_ips") == [(HERE,)]


async def test_where_a_password_is_changed_its_owner_is_known(
    proxied: Client, db: asyncpg.Connection
) -> None:
    alice = await proxied.open_account("alice")
    headers = {"X-Forwarded-For": ELSEWHERE}
    change = {"user": {"password": "another secret"}}
    answer = await proxied.put("/api/user", change, token=alice.access, headers=headers)
    assert answer.status == 200
    await exhaust_account(proxied, "alice")
    assert (await login(proxied, "alice", "another secret", address=HERE)).status == 429
    assert (await login(proxied, "alice", "another secret", address=ELSEWHERE)).status == 200


async def test_an_address_can_be_known_for_a_shorter_time_or_never(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    for seconds, status in ((3600, 200), (3500, 429), (0, 429)):
        client = await make_client(trusted_proxies=1, known_address_ttl=seconds)
        await client.register("alice")
        assert (await login(client, "alice", "alice-secret", address=HERE)).status == 200
        await db.execute("update known_ips set last_seen = now() - interval '3550 seconds'")
        await exhaust_account(client, "alice")
        assert (await login(client, "alice", "alice-secret", address=HERE)).status == status
        await db.execute("delete from users")
        await db.execute("delete from throttle")


async def test_a_user_has_ten_known_ips(proxied: Client, db: asyncpg.Connection) -> None:
    await proxied.open_account("alice")
    for host in range(12):
        assert (
            await login(proxied, "alice", "alice-secret", address=f"192.0.2.{host}")
        ).status == 200
    rows = await db.fetch("select ip_key from known_ips order by last_seen")
    assert [row["ip_key"] for row in rows] == [f"192.0.2.{host}" for host in range(2, 12)]


async def test_simultaneous_logins_from_new_addresses_all_succeed(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(trusted_proxies=1)
    await client.open_account("alice")
    hosts = (f"192.0.2.{number % 40}" for number in range(120))
    logins = (login(client, "alice", "alice-secret", address=host) for host in hosts)
    assert await statuses(*logins) == {200: 120}
    assert (await login(client, "alice", "alice-secret", address="192.0.2.50")).status == 200
    assert await db.fetchval("select count(*) from known_ips") == 10
