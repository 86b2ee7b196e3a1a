"""What several of these tests need: a proxy in front, two processes, workers held up."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from service.accounts.identity import MEMORY
from service.accounts.passwords import PASSWORDS, PasswordHasher
from tests.accounts.pair import Pair, trusted
from tests.conftest import Client, MakeClient
from tests.network import Network


def hasher_of(client: Client) -> PasswordHasher:
    assert client.http.app is not None
    return client.http.app[PASSWORDS]


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else go on until ``condition`` holds."""
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
    assert len(there.http.app[MEMORY].users) == 1
    return Pair(here, there, token)


@pytest.fixture
async def network(database_url: str) -> AsyncIterator[Network]:
    """A way to the database that a test may break."""
    async with Network(database_url) as network:
        yield network
