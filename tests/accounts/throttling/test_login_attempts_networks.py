"""Logins from IPv6 count for their /64 and, at a higher limit, for their /48."""

import asyncpg
import pytest

from service.accounts.throttling.throttle import SITE_FACTOR, digest
from service.settings.rate_limit import NO_LIMIT, Limit
from tests.accounts.logins import host, login, statuses
from tests.conftest import Client, MakeClient


@pytest.fixture
async def low_limit(make_client: MakeClient) -> Client:
    """Return a client behind one proxy, with a limit of two failures for each IP address."""
    return await make_client(
        trusted_proxies=1, login_limits=(NO_LIMIT, Limit(2, 900), Limit(50, 3600))
    )


async def test_ipv6_client_is_counted_by_its_64(proxied: Client, alice: str) -> None:
    guesses = (login(proxied, "alice", ip=f"2001:db8:0:1::{host}") for host in range(1, 9))
    assert await statuses(*guesses) == {401: 5, 429: 3}
    assert (await login(proxied, "alice", ip="2001:db8:0:2::1")).status == 401


async def test_guesses_across_a_48_reach_eight_times_the_limit_of_an_ip(
    low_limit: Client,
) -> None:
    guesses = (login(low_limit, f"user{i}", ip=host(i)) for i in range(120))
    assert await statuses(*guesses) == {401: 2 * SITE_FACTOR, 429: 120 - 2 * SITE_FACTOR}
    rejected = await login(low_limit, "another", ip=host(200))
    assert (rejected.status, rejected.body["code"]) == (429, "too_many_attempts")
    assert int(rejected.headers["Retry-After"]) in range(1, 901)
    assert (await login(low_limit, "another", ip="2001:db8:1::1")).status == 401


async def test_guesses_across_a_46_reach_the_limits_of_its_four_48s(
    low_limit: Client,
) -> None:
    sites = [f"2001:db8:{number:x}" for number in range(4)]
    guesses = (login(low_limit, f"user{i}", ip=host(i, sites[i % 4])) for i in range(120))
    assert await statuses(*guesses) == {401: 4 * 2 * SITE_FACTOR, 429: 120 - 4 * 2 * SITE_FACTOR}


async def test_rejected_guesses_of_a_64_do_not_count_for_its_48(
    low_limit: Client,
) -> None:
    for number in range(SITE_FACTOR - 1):
        guesses = (login(low_limit, f"user{i}", ip=host(number)) for i in range(30))
        assert await statuses(*guesses) == {401: 2, 429: 28}
    guesses = (login(low_limit, f"user{i}", ip=host(SITE_FACTOR + i)) for i in range(9))
    assert await statuses(*guesses) == {401: 2, 429: 7}


async def test_ipv4_addresses_share_no_limit(low_limit: Client) -> None:
    guesses = (login(low_limit, f"user{i}", ip=f"192.0.2.{i}") for i in range(120))
    assert await statuses(*guesses) == {401: 120}
    mapped = (login(low_limit, f"user{i}", ip=f"::ffff:198.51.100.{i}") for i in range(120))
    assert await statuses(*mapped) == {401: 120}


async def test_neighbors_in_a_48_do_not_lock_out_a_known_ip(
    low_limit: Client,
) -> None:
    await low_limit.register("alice")
    at_home = host(0)
    assert (await login(low_limit, "alice", "alice-secret", ip=at_home)).status == 200
    guesses = (login(low_limit, f"user{i}", ip=host(i + 1)) for i in range(60))
    assert await statuses(*guesses) == {401: 2 * SITE_FACTOR, 429: 60 - 2 * SITE_FACTOR}
    assert (await login(low_limit, "alice", "alice-secret", ip=at_home)).status == 200
    assert (await login(low_limit, "alice", "alice-secret", ip=host(99))).status == 429
    # The limit of the IP address itself still applies.
    guesses = (login(low_limit, "alice", ip=at_home) for _ in range(9))
    assert await statuses(*guesses) == {401: 2, 429: 7}


async def test_two_processes_share_the_limit_of_a_48(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    limits = (Limit(5, 900), Limit(3, 900), Limit(50, 3600))
    clients = [await make_client(trusted_proxies=1, login_limits=limits) for _ in range(2)]
    guesses = (login(clients[i % 2], f"user{i % 40}", ip=host(i)) for i in range(200))
    assert await statuses(*guesses) == {401: 3 * SITE_FACTOR, 429: 200 - 3 * SITE_FACTOR}
    rows = await db.fetch("select hits, in_flight from throttle order by hits desc limit 1")
    assert [tuple(row) for row in rows] == [(3 * SITE_FACTOR, 0)]


async def test_default_limit_of_a_48_is_400_failures(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(trusted_proxies=1)
    await login(client, "nobody", ip=host(0))
    key = digest("login ip", "2001:db8::/48")
    filled = await db.execute("update throttle set hits = 399 where key = $1", key)
    assert filled == "UPDATE 1"
    assert (await login(client, "nobody", ip=host(1))).status == 401
    assert (await login(client, "nobody", ip=host(2))).status == 429
