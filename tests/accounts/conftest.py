"""What several of these tests need: a proxy in front, two processes, workers held up."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import uuid4

import pytest

from service.accounts.passwords.hash_queue import Requester
from service.accounts.passwords.hasher import PASSWORDS, PasswordHasher
from service.accounts.sessions.authentication import SESSION_CACHE
from tests.accounts.pair import Pair, trusted
from tests.conftest import Client, MakeClient
from tests.network import Network

REQUESTER = Requester("192.0.2.1", uuid4())


def hasher_of(client: Client) -> PasswordHasher:
    assert client.http.app is not None
    return client.http.app[PASSWORDS]


def hold_workers(
    hasher: PasswordHasher, gate: threading.Event, *, leave: int = 0
) -> list[asyncio.Task[bool]]:
    """Keep all workers but ``leave`` of them busy until ``gate`` opens."""
    count = hasher.queue.threads - leave
    return [
        asyncio.create_task(hasher.queue.run(gate.wait, REQUESTER, is_login=True))
        for _ in range(count)
    ]


def jobs_of(hasher: PasswordHasher) -> int:
    """The jobs that run and those that wait."""
    queue = hasher.queue
    return queue.running + len(queue.logins) + len(queue.others)


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else go on until ``condition`` holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What holds up a worker; opened at the end, so that a test that fails leaves none behind."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
async def proxied(make_client: MakeClient) -> Client:
    """A client behind one proxy, so that a test can come from any address."""
    return await make_client(trusted_proxies=1)


@pytest.fixture
async def pair(make_client: MakeClient) -> Pair:
    here = await trusted(await make_client(user_cache_size=100))
    there = await trusted(await make_client(user_cache_size=100))
    token = await here.register("alice")
    assert (await there.get("/api/user", token=token)).status == 200
    assert len(there.http.app[SESSION_CACHE].users) == 1
    return Pair(here, there, token)


@pytest.fixture
async def network(database_url: str) -> AsyncIterator[Network]:
    """A way to the database that a test may break."""
    async with Network(database_url) as network:
        yield network
