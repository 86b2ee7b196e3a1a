"""Requests that queue mails, while the mail server accepts mails and while it is away."""

import asyncio
import contextlib
import itertools
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench import servers
from bench.servers import free_port, running
from bench.table import Row

ROUNDS = 10
CONNECTIONS = 8
REQUESTS = 160  # Requests of each kind in one round.
PASSWORD = "bench-bench"  # noqa: S105
# Each request comes from an IP address of its own. No other limit is reached, except this one.
SETTINGS = {"TRUSTED_PROXIES": "1", "BCRYPT_COST": "4", "REGISTRATION_LIMIT": "0"}
KINDS = {
    "register": "registration",
    "forget": "forgotten password",
    "log_in": "login that sends a notice",
}


@dataclass
class Measured:
    """The requests of one kind: how many a second in each round, and the milliseconds of each."""

    rates: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Return the median time of a request."""
        return statistics.median(self.times)

    @property
    def p99(self) -> float:
        """Return the time that 99 of 100 requests stay below."""
        return statistics.quantiles(self.times, n=100)[98]


class Person:
    """Send requests to one service, each from another IP address."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._numbers = itertools.count()

    async def register(self, name: str) -> None:
        """Send the request that queues a link to verify an email."""
        user = {"username": name, "email": f"{name}@example.test", "password": PASSWORD}
        await self._post("/api/users", {"user": user})

    async def forget(self, name: str) -> None:
        """Send the request that queues a link to reset a password."""
        await self._post("/api/auth/forgot-password", {"email": f"{name}@example.test"})

    async def log_in(self, name: str) -> None:
        """Send the request that queues a notice of a login from another IP address."""
        user = {"email": f"{name}@example.test", "password": PASSWORD}
        await self._post("/api/users/login", {"user": user})

    async def _post(self, path: str, body: Any) -> None:
        number = next(self._numbers)
        ip = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        headers = {"X-Forwarded-For": ip, "User-Agent": "bench"}
        async with self._session.post(self._url + path, json=body, headers=headers) as response:
            if response.status != 200:
                sys.exit(f"{path} responded with {response.status}: {await response.text()}")
            await response.read()


def measure(report: Callable[[str], None]) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes four minutes."""
    with contextlib.ExitStack() as stack:
        urls = {}
        for name, port in stack.enter_context(_mail_servers()).items():
            settings = {
                **SETTINGS,
                "SMTP_URL": f"smtp://127.0.0.1:{port}",
                "MAIL_FROM": "bench@example.test",
                "BASE_URL": "http://localhost",
            }
            urls[name] = stack.enter_context(servers.service(**settings)).url
        measured = asyncio.run(_in_turn(urls, report))
    return [row for mode in list(urls)[1:] for row in _rows(mode, measured)]


def _rows(mode: str, measured: dict[tuple[str, str], Measured]) -> Iterator[Row]:
    for kind, title in KINDS.items():
        calm, away = measured["accepting", kind], measured[mode, kind]
        # Of each round, because the speed of a shared machine changes between them.
        ratio = statistics.median(b / a for a, b in zip(calm.rates, away.rates, strict=True))
        yield Row(
            f"{mode}: {title}, requests a second",
            f"{statistics.median(calm.rates):.0f}",
            f"{statistics.median(away.rates):.0f}",
            f"{ratio:.2f}",
        )
        for what in ("median", "p99"):
            before, after = getattr(calm, what), getattr(away, what)
            name = f"{mode}: {title}, {what}"
            yield Row(name, f"{before:.1f} ms", f"{after:.1f} ms", f"{after / before:.2f}")


@contextlib.contextmanager
def _mail_servers() -> Iterator[dict[str, int]]:
    """Yield the port of a mail server of each mode."""
    port = free_port()
    with (
        running([sys.executable, "-m", "bench.mail", str(port), "0"], port),
        socket.socket() as silent,
        socket.socket() as refusing,
    ):
        # The kernel accepts connections to a socket that listens. No program ever reads them.
        silent.bind(("127.0.0.1", 0))
        silent.listen(1024)
        refusing.bind(("127.0.0.1", 0))
        yield {
            "accepting": port,
            "silent": silent.getsockname()[1],
            "refusing": refusing.getsockname()[1],
        }


async def _in_turn(
    urls: dict[str, str], report: Callable[[str], None]
) -> dict[tuple[str, str], Measured]:
    """Load the services in turn, so that a machine that slows down affects all of them."""
    measured = {(mode, kind): Measured() for mode in urls for kind in KINDS}
    async with aiohttp.ClientSession() as session:
        people = {mode: Person(session, url) for mode, url in urls.items()}
        for number in range(-1, ROUNDS):
            report(f"Mails to three servers, round {number + 1} of {ROUNDS} (0 is a warm-up) ...")
            # Another mode is the first in each round.
            modes = list(urls)[number % 3 :] + list(urls)[: number % 3]
            for mode in modes:
                names = [f"user{number + 1}x{index}" for index in range(REQUESTS)]
                for kind in KINDS:
                    seen = Measured() if number < 0 else measured[mode, kind]
                    await _load(getattr(people[mode], kind), names, seen)
    return measured


async def _load(send: Callable[[str], Awaitable[None]], names: list[str], seen: Measured) -> None:
    """Send a request for each of ``names`` on ``CONNECTIONS`` connections without a pause."""
    left = iter(names)

    async def send_all() -> None:
        for name in left:
            started = time.perf_counter()
            await send(name)
            seen.times.append(1000 * (time.perf_counter() - started))

    started = time.perf_counter()
    await asyncio.gather(*(send_all() for _ in range(CONNECTIONS)))
    seen.rates.append(len(names) / (time.perf_counter() - started))
