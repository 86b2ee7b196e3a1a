"""IPv6 clients count by their /64 and, at a higher limit, by their /48."""

import asyncpg
import pytest

from service.accounts.throttling.throttle import SITE_FACTOR, digest
from service.settings.rate_limit import NO_LIMIT, Limit
from tests.accounts.logins import login, statuses
from tests.conftest import Answer, Client, MakeClient


def host(number: int, site: str = "2001:db8:0") -> str:
    """An IP address in a /64 of its own inside ``site``, a /48."""
    return f"{site}:{number + 1:x}::1"


@pytest.fixture
async def spraying(make_client: MakeClient) -> Client:
    """A service behind one proxy that takes two failures of an IP address, whatever the account."""
    return await make_client(
        trusted_proxies=1, login_limits=(NO_LIMIT, Limit(2, 900), Limit(50, 3600))
    )


async def test_guesses_spread_over_a_48_meet_a_limit_of_eight_addresses(spraying: Client) -> None:
    guesses = (login(spraying, f"user{i}", address=host(i)) for i in range(120))
    assert await statuses(*guesses) == {401: 2 * SITE_FACTOR, 429: 120 - 2 * SITE_FACTOR}
    refused = await login(spraying, "another", address=host(200))
    assert (refused.status, refused.body["code"]) == (429, "too_many_attempts")
    assert int(refused.headers["Retry-After"]) in range(1, 901)
    assert (await login(spraying, "another", address="2001:db8:1::1")).status == 401


async def test_guesses_spread_over_a_46_meet_the_limits_of_its_four_48s(spraying: Client) -> None:
    sites = [f"2001:db8:{number:x}" for number in range(4)]
    guesses = (login(spraying, f"user{i}", address=host(i, sites[i % 4])) for i in range(120))
    assert await statuses(*guesses) == {401: 4 * 2 * SITE_FACTOR, 429: 120 - 4 * 2 * SITE_FACTOR}


async def test_a_64_has_the_limit_of_one_address_and_fills_no_more_of_its_48(
    spraying: Client,
) -> None:
    for number in range(SITE_FACTOR - 1):
        guesses = (login(spraying, f"user{i}", address=host(number)) for i in range(30))
        assert await statuses(*guesses) == {401: 2, 429: 28}
    guesses = (login(spraying, f"user{i}", address=host(SITE_FACTOR + i)) for i in range(9))
    assert await statuses(*guesses) == {401: 2, 429: 7}


async def test_ipv4_addresses_share_no_limit(spraying: Client) -> None:
    guesses = (login(spraying, f"user{i}", address=f"192.0.2.{i}") for i in range(120))
    assert await statuses(*guesses) == {401: 120}
    mapped = (login(spraying, f"user{i}", address=f"::ffff:198.51.100.{i}") for i in range(120))
    assert await statuses(*mapped) == {401: 120}


async def test_neighbours_in_a_48_cannot_lock_a_user_out_of_a_known_address(
    spraying: Client,
) -> None:
    await spraying.register("alice")
    at_home = host(0)
    assert (await login(spraying, "alice", "alice-secret", address=at_home)).status == 200
    guesses = (login(spraying, f"user{i}", address=host(i + 1)) for i in range(60))
    assert await statuses(*guesses) == {401: 2 * SITE_FACTOR, 429: 60 - 2 * SITE_FACTOR}
    assert (await login(spraying, "alice", "alice-secret", address=at_home)).status == 200
    assert (await login(spraying, "alice", "alice-secret", address=host(99))).status == 429
    # The IP address itself has its limit all the same.
    guesses = (login(spraying, "alice", address=at_home) for _ in range(9))
    assert await statuses(*guesses) == {401: 2, 429: 7}


async def test_guesses_are_counted_exactly_by_two_processes(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    limits = (Limit(5, 900), Limit(3, 900), Limit(50, 3600))
    clients = [await make_client(trusted_proxies=1, login_limits=limits) for _ in range(2)]
    guesses = (login(clients[i % 2], f"user{i % 40}", address=host(i)) for i in range(200))
    assert await statuses(*guesses) == {401: 3 * SITE_FACTOR, 429: 200 - 3 * SITE_FACTOR}
    rows = await db.fetch("select hits, in_flight from throttle order by hits desc limit 1")
    assert [tuple(row) for row in rows] == [(3 * SITE_FACTOR, 0)]


async def test_the_default_limit_of_a_48_is_400_failures(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(trusted_proxies=1)
    await login(client, "nobody", address=host(0))
    key = digest("login ip", "2001:db8::/48")
    filled = await db.execute("update throttle set hits = 399 where key = $1", key)
    assert filled == "UPDATE 1"
    assert (await login(client, "nobody", address=host(1))).status == 401
    assert (await login(client, "nobody", address=host(2))).status == 429


async def register(client: Client, name: str, address: str) -> Answer:
    user = {"username": name, "email": f"{name}@example.test", "password": "long enough"}
    return await client.post("/api/users", {"user": user}, headers={"X-Forwarded-For": address})


async def test_registrations_spread_over_a_48_meet_a_limit_of_eight_addresses(
    make_client: MakeClient,
) -> None:
    client = await make_client(trusted_proxies=1, registration_limit=Limit(2, 60))
    # Refusals of one /64 count for its /48 no more than its limit.
    guesses = (register(client, f"first{i}", host(0)) for i in range(40))
    assert await statuses(*guesses) == {200: 2, 429: 38}
    others = (register(client, f"user{i}", host(i + 1)) for i in range(40))
    assert await statuses(*others) == {200: 2 * SITE_FACTOR - 2, 429: 40 - (2 * SITE_FACTOR - 2)}
    assert (await register(client, "other", host(0, "2001:db8:1"))).status == 200
    ipv4 = (register(client, f"four{i}", f"192.0.2.{i}") for i in range(40))
    assert await statuses(*ipv4) == {200: 40}


async def test_refreshes_spread_over_a_48_meet_a_limit_of_eight_addresses(
    make_client: MakeClient,
) -> None:
    client = await make_client(trusted_proxies=1, refresh_limit=Limit(2, 60))

    async def refresh(number: int) -> Answer:
        headers = {"X-Forwarded-For": host(number)}
        return await client.post("/api/auth/refresh", {"refresh_token": "x"}, headers=headers)

    assert await statuses(*(refresh(i) for i in range(40))) == {
        401: 2 * SITE_FACTOR,
        429: 40 - 2 * SITE_FACTOR,
    }
