"""The workers that hash passwords, held up so that requests meet in a known order."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from service.accounts.passwords import PASSWORDS, PasswordHasher
from tests.conftest import Client


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
