"""Fixtures: a proxy, two instances, and blocked hash threads."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import uuid4

import pytest

from service.accounts.passwords.hash_queue import Requester
from service.accounts.passwords.hasher import PASSWORDS, PasswordHasher
from service.accounts.sessions.authentication import SESSION_CACHE
from tests.accounts.two_instances import TwoInstances, wait_until_trusted
from tests.conftest import Client, MakeClient
from tests.network import Network

REQUESTER = Requester("192.0.2.1", uuid4())


def hasher_of(client: Client) -> PasswordHasher:
    hasher: PasswordHasher = client.http.app[PASSWORDS]
    return hasher


def hold_workers(
    hasher: PasswordHasher, gate: threading.Event, *, leave: int = 0
) -> list[asyncio.Task[bool]]:
    """Keep all hash threads but ``leave`` of them busy until ``gate`` is set."""
    count = hasher.queue.threads - leave
    return [
        asyncio.create_task(hasher.queue.run(gate.wait, REQUESTER, is_login=True))
        for _ in range(count)
    ]


def jobs_of(hasher: PasswordHasher) -> int:
    """Return the number of running and waiting jobs."""
    queue = hasher.queue
    return queue.running + len(queue.logins) + len(queue.others)


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until ``condition`` is true."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Yield the event that blocks hash threads. It is set at the end, also of a failed test."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
async def proxied(make_client: MakeClient) -> Client:
    """Return a client behind one proxy, so that a test can use any IP address."""
    return await make_client(trusted_proxies=1)


@pytest.fixture
async def instances(make_client: MakeClient) -> TwoInstances:
    first = await wait_until_trusted(await make_client(user_cache_size=100))
    second = await wait_until_trusted(await make_client(user_cache_size=100))
    token = await first.register("alice")
    assert (await second.get("/api/user", token=token)).status == 200
    assert len(second.http.app[SESSION_CACHE].users) == 1
    return TwoInstances(first, second, token)


@pytest.fixture
async def network(database_url: str) -> AsyncIterator[Network]:
    """Yield a connection to the database that a test can interrupt."""
    async with Network(database_url) as network:
        yield network
