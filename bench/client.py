"""A load client for many sessions: closed loop, and open loop with latencies from the due time.

It is written for asyncio.Protocol, because a client that costs more than the server would measure
itself. ``bench/README.md`` states its own limit.
"""

import asyncio
import contextlib
import gc
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

CONNECTIONS = 32


def request(method: str, path: str, token: str | None = None, body: bytes = b"") -> bytes:
    """Return the bytes of an HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench"]
    if token is not None:
        lines.append(f"Authorization: Token {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Sample:
    """When a request was due, in seconds from the start, and the milliseconds to its response."""

    due: float
    latency: float


class Connection(asyncio.Protocol):
    """One kept connection with at most one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._done: Callable[[bytes], None] = lambda _: None
        self.max_status = 399
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # A transport of uvloop has no common class with it.
        self.transport = cast(asyncio.Transport, transport)

    def send(self, data: bytes, done: Callable[[bytes], None]) -> None:
        """Send a request; call ``done`` with the body when the whole response was received."""
        self._done = done
        self.transport.write(data)

    async def exchange(self, data: bytes) -> bytes:
        """Send a request, and return the body of its response."""
        body: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.send(data, body.set_result)
        return await body

    def data_received(self, data: bytes) -> None:
        """Collect the response. Exit if its status is above ``max_status``."""
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < _length(head):
            return
        self._received = b""
        if int(head[9:12]) > self.max_status:
            raise SystemExit(f"A request failed: {head!r} {body!r}")
        self._done(body)


def _length(head: bytes) -> int:
    start = head.find(b"Content-Length: ")
    return int(head[start + 16 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


@contextlib.asynccontextmanager
async def connections(
    url: str, count: int = CONNECTIONS, ips: int = 1
) -> AsyncIterator[list[Connection]]:
    """Open ``count`` connections to the host of ``url``, from ``ips`` IP addresses in turn."""
    loop, where = asyncio.get_running_loop(), urlsplit(url)
    host, port = where.hostname or "", where.port or 80
    opened = [
        (
            await loop.create_connection(
                # Linux has all of 127.0.0.0/8 on the loopback interface.
                Connection,
                host,
                port,
                local_addr=(f"127.0.0.{1 + number % ips}", 0),
            )
        )[1]
        for number in range(count)
    ]
    # A collection of the client's garbage would be a latency of the server.
    gc.collect()
    gc.disable()
    try:
        yield opened
    finally:
        gc.enable()
        for connection in opened:
            connection.transport.close()


async def send_all(url: str, requests: list[bytes], count: int = CONNECTIONS) -> None:
    """Send each of the ``requests`` once, on ``count`` connections without a pause."""
    remaining = iter(requests)
    async with connections(url, count) as opened:
        ended = [asyncio.get_running_loop().create_future() for _ in opened]

        def send(index: int) -> None:
            data = next(remaining, None)
            if data is None:
                ended[index].set_result(None)
            else:
                opened[index].send(data, lambda _: send(index))

        for index in range(count):
            send(index)
        await asyncio.gather(*ended)


async def closed_loop(
    url: str,
    next_request: Callable[[int, bytes], bytes],
    seconds: float,
    count: int = CONNECTIONS,
    ips: int = 1,
) -> float:
    """Return the requests per second of ``count`` connections from ``ips`` IP addresses.

    They never pause. ``next_request`` gets the index of the connection and the body of its previous
    response.
    """
    finished = 0
    started = time.perf_counter()
    async with connections(url, count, ips) as opened:
        ended = [asyncio.get_running_loop().create_future() for _ in opened]

        def send(index: int, previous: bytes) -> None:
            def done(body: bytes) -> None:
                nonlocal finished
                finished += 1
                if time.perf_counter() - started < seconds:
                    send(index, body)
                else:
                    ended[index].set_result(None)

            opened[index].send(next_request(index, previous), done)

        started = time.perf_counter()
        for index in range(count):
            send(index, b"")
        await asyncio.gather(*ended)
        return finished / (time.perf_counter() - started)


async def open_loop(
    url: str, requests: Iterator[bytes], rate: float, seconds: float, count: int = CONNECTIONS
) -> list[Sample]:
    """Send ``rate`` requests a second at random times, whether or not earlier ones are finished.

    A request whose time has come while every connection is busy waits for one, and its wait counts.
    """
    schedule = _schedule(requests, rate, seconds)
    samples: list[Sample] = []
    async with connections(url, count) as opened:
        free, waiting = list(opened), deque[tuple[float, bytes]]()
        all_done = asyncio.Event()
        started = time.perf_counter()

        def send(connection: Connection, due: float, data: bytes) -> None:
            def done(_: bytes) -> None:
                samples.append(Sample(due, (time.perf_counter() - started - due) * 1000))
                if waiting:
                    send(connection, *waiting.popleft())
                else:
                    free.append(connection)
                if len(samples) == len(schedule):
                    all_done.set()

            connection.send(data, done)

        for due, data in schedule:
            pause = started + due - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            if free:
                send(free.pop(), due, data)
            else:
                waiting.append((due, data))
                await asyncio.sleep(0)
        await all_done.wait()
    return samples


def _schedule(requests: Iterator[bytes], rate: float, seconds: float) -> list[tuple[float, bytes]]:
    """Return requests with their due times: a Poisson process, the same one in every run."""
    random_times = random.Random(1)
    schedule, due = [], 0.0
    while (due := due + random_times.expovariate(rate)) < seconds:
        schedule.append((due, next(requests)))
    return schedule


def percentile(samples: list[Sample], share: float) -> float:
    """Return the latency in milliseconds that ``share`` of the samples do not exceed."""
    latencies = sorted(sample.latency for sample in samples)
    return latencies[min(int(len(latencies) * share), len(latencies) - 1)]
