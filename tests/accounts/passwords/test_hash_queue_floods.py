"""Users can log in while another requester floods the hashing threads."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from service.settings.rate_limit import NO_LIMIT
from tests.accounts.conftest import hasher_of, hold_workers, until
from tests.accounts.logins import login
from tests.conftest import Client, MakeClient, Response

OTHERS = 44  # Users who log in during a flood.


class Flood:
    """Send requests of one attacker that fill the queue while the hashing threads are busy."""

    def __init__(self, client: Client, gate: threading.Event) -> None:
        self._client, self._gate = client, gate
        self._queue = hasher_of(client).queue
        self._held = hold_workers(hasher_of(client), gate)

    async def with_logins_of_others(
        self, requests: list[Any], ip: Callable[[int], str]
    ) -> tuple[Counter[int], list[Response]]:
        """Send ``requests``, then logins of ``OTHERS`` users from ``ip(number)``; free the threads.

        Return the statuses of the requests and the responses to the logins.
        """
        requests = [asyncio.create_task(request) for request in requests]
        size = self._client.settings.password_queue_size
        queue = self._queue
        await until(lambda: size in (len(queue.logins), len(queue.others)))
        await until(lambda: sum(r.done() for r in requests) == len(requests) - size)
        others = [
            asyncio.create_task(login(self._client, f"other{n}", f"other{n}-secret", ip=ip(n)))
            for n in range(OTHERS)
        ]
        # Wait until each login has a response or a place in the queue.
        await until(
            lambda: (
                sum(task.done() for task in (*others, *requests))
                == len(others) + len(requests) - len(queue.logins) - len(queue.others)
            )
        )
        self._gate.set()
        responses = await asyncio.gather(*others)
        flood = Counter(response.status for response in await asyncio.gather(*requests))
        await asyncio.gather(*self._held)
        return flood, responses


@pytest.fixture
async def crowded(make_client: MakeClient) -> Client:
    """Return a client with 44 users, without the limits that would stop a flood earlier."""
    client = await make_client(
        trusted_proxies=1,
        login_limits=(NO_LIMIT, NO_LIMIT, NO_LIMIT),
        password_change_limit=NO_LIMIT,
    )
    await asyncio.gather(*(client.register(f"other{n}") for n in range(OTHERS)))
    return client


def same_ip(_: int) -> str:
    return "203.0.113.1"


def own_ip(number: int) -> str:
    return f"198.51.100.{number}"


@pytest.mark.parametrize("ip_of_others", [same_ip, own_ip])
async def test_users_can_log_in_while_one_account_floods_with_password_changes(
    crowded: Client, gate: threading.Event, ip_of_others: Callable[[int], str]
) -> None:
    token = await crowded.register("alice")
    headers = {"X-Forwarded-For": same_ip(0)}
    flood = [
        crowded.put(
            "/api/user", {"user": {"password": f"secret-{n}"}}, token=token, headers=headers
        )
        for n in range(150)
    ]
    statuses, logins = await Flood(crowded, gate).with_logins_of_others(flood, ip_of_others)
    assert Counter(response.status for response in logins) == {200: OTHERS}
    assert statuses == {200: 128, 503: 22}


@pytest.mark.parametrize("ip_of_others", [same_ip, own_ip])
@pytest.mark.parametrize("ip_of_flood", [same_ip, lambda n: f"192.0.2.{n}"], ids=["one", "many"])
async def test_users_can_log_in_while_one_account_floods_with_correct_logins(
    crowded: Client,
    gate: threading.Event,
    ip_of_flood: Callable[[int], str],
    ip_of_others: Callable[[int], str],
) -> None:
    await crowded.register("alice")
    flood = [
        login(crowded, "alice", "alice-secret", ip=ip_of_flood(number)) for number in range(150)
    ]
    statuses, logins = await Flood(crowded, gate).with_logins_of_others(flood, ip_of_others)
    assert Counter(response.status for response in logins) == {200: OTHERS}
    assert statuses == {200: 128 - OTHERS, 503: 22 + OTHERS}


@pytest.mark.parametrize("ip_of_others", [same_ip, own_ip])
async def test_users_can_log_in_while_one_ip_floods_with_registrations(
    crowded: Client, gate: threading.Event, ip_of_others: Callable[[int], str]
) -> None:
    def register(number: int) -> Any:
        name = f"new{number}"
        user = {"username": name, "email": f"{name}@example.test", "password": "long enough"}
        headers = {"X-Forwarded-For": same_ip(number)}
        return crowded.post("/api/users", {"user": user}, headers=headers)

    flood = [register(number) for number in range(150)]
    statuses, logins = await Flood(crowded, gate).with_logins_of_others(flood, ip_of_others)
    assert Counter(response.status for response in logins) == {200: OTHERS}
    assert statuses == {200: 128, 503: 22}


@pytest.mark.parametrize(
    "ip_of_flood", [same_ip, lambda n: f"2001:db8:0:{n:x}::1"], ids=["one IP", "one /48"]
)
async def test_users_can_log_in_while_one_client_floods_with_logins_of_unknown_emails(
    crowded: Client, gate: threading.Event, ip_of_flood: Callable[[int], str]
) -> None:
    flood = [login(crowded, f"nobody{n}", ip=ip_of_flood(n)) for n in range(150)]
    statuses, logins = await Flood(crowded, gate).with_logins_of_others(flood, own_ip)
    assert Counter(response.status for response in logins) == {200: OTHERS}
    assert statuses == {401: 128 - OTHERS, 503: 22 + OTHERS}
