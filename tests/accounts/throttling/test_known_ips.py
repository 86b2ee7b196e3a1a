"""Strangers cannot lock a user out at a known IP address."""

import asyncpg

import sql
from service.settings.rate_limit import NO_LIMIT, Limit
from tests.accounts.logins import ELSEWHERE, HERE, LOCKED, exhaust_account, login, statuses
from tests.conftest import Client, MakeClient


async def test_locked_account_accepts_logins_only_from_known_ips(
    proxied: Client, alice: str, db: asyncpg.Connection
) -> None:
    assert (await login(proxied, "alice", "alice-secret", ip=HERE)).status == 200
    await exhaust_account(proxied, "alice")
    rejected = await login(proxied, "alice", "alice-secret", ip=ELSEWHERE)
    assert (rejected.status, rejected.body) == (429, LOCKED)
    assert (await login(proxied, "alice", "alice-secret", ip=HERE)).status == 200
    await db.execute("update known_ips set last_seen = now() - interval '31 days'")
    assert (await login(proxied, "alice", "alice-secret", ip=HERE)).status == 429


async def test_guesses_from_a_known_ip_do_not_lock_the_account_elsewhere(
    proxied: Client, alice: str, db: asyncpg.Connection
) -> None:
    assert (await login(proxied, "alice", "alice-secret", ip=HERE)).status == 200
    for _ in range(11):
        guesses = (login(proxied, "alice", ip=HERE) for _ in range(20))
        assert await statuses(*guesses) == {401: 5, 429: 15}
        await db.execute(
            "update throttle set ends_at = now() where ends_at < now() + interval '900 seconds'"
        )
    assert (await login(proxied, "alice", "alice-secret", ip=ELSEWHERE)).status == 200


async def test_registration_makes_its_ip_known(proxied: Client) -> None:
    user = {"username": "jake", "email": "jake@example.test", "password": "jake-secret"}
    headers = {"X-Forwarded-For": HERE}
    assert (await proxied.post("/api/users", {"user": user}, headers=headers)).status == 200
    await exhaust_account(proxied, "jake")
    assert (await login(proxied, "jake", "jake-secret", ip=ELSEWHERE)).status == 429
    assert (await login(proxied, "jake", "jake-secret", ip=HERE)).status == 200


async def test_refresh_keeps_its_ip_known(client: Client, db: asyncpg.Connection) -> None:
    device = await client.open_account("alice")
    await db.execute("update known_ips set last_seen = now() - interval '29 days'")
    assert (await client.refresh(device.refresh)).status == 200
    assert await db.fetchval("select last_seen > now() - interval '1 day' from known_ips")
    await db.execute("delete from known_ips")
    assert (await client.post("/api/auth/logout", token=device.access)).status == 204
    assert await db.fetchval("select count(*) from known_ips") == 0


async def test_password_change_removes_the_other_known_ips(
    proxied: Client, alice: str, db: asyncpg.Connection
) -> None:
    assert (await login(proxied, "alice", "alice-secret", ip=ELSEWHERE)).status == 200
    assert (await login(proxied, "alice", "alice-secret", ip=HERE)).status == 200
    change = {"user": {"password": "another secret"}}
    headers = {"X-Forwarded-For": HERE}
    assert (await proxied.put("/api/user", change, token=alice, headers=headers)).status == 200
    assert await db.fetch("select ip_key from known_ips") == [(HERE,)]


async def test_password_change_makes_its_ip_known(proxied: Client, db: asyncpg.Connection) -> None:
    alice = await proxied.open_account("alice")
    headers = {"X-Forwarded-For": ELSEWHERE}
    change = {"user": {"password": "another secret"}}
    response = await proxied.put("/api/user", change, token=alice.access, headers=headers)
    assert response.status == 200
    await exhaust_account(proxied, "alice")
    assert (await login(proxied, "alice", "another secret", ip=HERE)).status == 429
    assert (await login(proxied, "alice", "another secret", ip=ELSEWHERE)).status == 200


async def test_ip_is_known_for_the_time_in_the_settings(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    for seconds, status in ((3600, 200), (3500, 429), (0, 429)):
        client = await make_client(trusted_proxies=1, known_address_ttl=seconds)
        await client.register("alice")
        assert (await login(client, "alice", "alice-secret", ip=HERE)).status == 200
        await db.execute("update known_ips set last_seen = now() - interval '3550 seconds'")
        await exhaust_account(client, "alice")
        assert (await login(client, "alice", "alice-secret", ip=HERE)).status == status
        await db.execute("delete from users")
        await db.execute("delete from throttle")


async def test_user_has_at_most_ten_known_ips(proxied: Client, db: asyncpg.Connection) -> None:
    await proxied.open_account("alice")
    for host in range(12):
        assert (await login(proxied, "alice", "alice-secret", ip=f"192.0.2.{host}")).status == 200
    rows = await db.fetch("select ip_key from known_ips order by last_seen")
    assert [row["ip_key"] for row in rows] == [f"192.0.2.{host}" for host in range(2, 12)]


async def test_concurrent_logins_from_new_ips_all_succeed(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(trusted_proxies=1)
    await client.open_account("alice")
    hosts = (f"192.0.2.{number % 40}" for number in range(120))
    logins = (login(client, "alice", "alice-secret", ip=host) for host in hosts)
    assert await statuses(*logins) == {200: 120}
    assert (await login(client, "alice", "alice-secret", ip="192.0.2.50")).status == 200
    assert await db.fetchval("select count(*) from known_ips") == 10


async def test_known_ip_is_exempt_when_only_the_account_has_a_limit(
    make_client: MakeClient,
) -> None:
    client = await make_client(login_limits=(NO_LIMIT, NO_LIMIT, Limit(3, 60)), trusted_proxies=1)
    await client.register("alice")
    assert (await login(client, "alice", "alice-secret")).status == 200
    guesses = (login(client, "alice", ip="203.0.113.1") for _ in range(5))
    assert await statuses(*guesses) == {401: 3, 429: 2}
    assert (await login(client, "alice", "alice-secret")).status == 200


async def test_expired_ips_are_deleted_in_batches(client: Client, db: asyncpg.Connection) -> None:
    await client.register("alice")
    user_id = await db.fetchval("select id from users")
    await db.execute("delete from known_ips")
    await db.execute(
        "insert into known_ips select $1, 'a' || n, now() - n * interval '14 days'"
        " from generate_series(0, 4) as n",
        user_id,
    )
    assert await sql.known_ips.delete_expired(db, known_ttl=2_592_000, limit=1) == 1
    assert await sql.known_ips.delete_expired(db, known_ttl=2_592_000, limit=9) == 1
    assert await db.fetchval("select count(*) from known_ips") == 3
