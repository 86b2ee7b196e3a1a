"""Registrations and refreshes from IPv6 count for their /64 and, at a higher limit, their /48."""

from service.accounts.throttling.throttle import SITE_FACTOR
from service.settings.rate_limit import Limit
from tests.accounts.logins import host, statuses
from tests.conftest import Client, MakeClient, Response


async def register(client: Client, name: str, ip: str) -> Response:
    user = {"username": name, "email": f"{name}@example.test", "password": "long enough"}
    return await client.post("/api/users", {"user": user}, headers={"X-Forwarded-For": ip})


async def test_registrations_across_a_48_reach_eight_times_the_limit_of_an_ip(
    make_client: MakeClient,
) -> None:
    client = await make_client(trusted_proxies=1, registration_limit=Limit(2, 60))
    # Rejected registrations of a /64 do not count for its /48.
    of_one = (register(client, f"first{i}", host(0)) for i in range(40))
    assert await statuses(*of_one) == {200: 2, 429: 38}
    others = (register(client, f"user{i}", host(i + 1)) for i in range(40))
    assert await statuses(*others) == {200: 2 * SITE_FACTOR - 2, 429: 40 - (2 * SITE_FACTOR - 2)}
    assert (await register(client, "other", host(0, "2001:db8:1"))).status == 200
    ipv4 = (register(client, f"four{i}", f"192.0.2.{i}") for i in range(40))
    assert await statuses(*ipv4) == {200: 40}


async def test_refreshes_across_a_48_reach_eight_times_the_limit_of_an_ip(
    make_client: MakeClient,
) -> None:
    client = await make_client(trusted_proxies=1, refresh_limit=Limit(2, 60))

    async def refresh(number: int) -> Response:
        headers = {"X-Forwarded-For": host(number)}
        return await client.post("/api/auth/refresh", {"refresh_token": "x"}, headers=headers)

    assert await statuses(*(refresh(i) for i in range(40))) == {
        401: 2 * SITE_FACTOR,
        429: 40 - 2 * SITE_FACTOR,
    }
