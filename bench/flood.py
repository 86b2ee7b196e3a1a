"""The logins of other users while one account floods the hashing threads."""

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from bench import servers
from bench.table import Row
from service.settings.missing import LOWEST_PRODUCTION_COST

OTHERS = 44
CONNECTIONS = 2
FLOOD = 150
PAUSE = 1.0  # Seconds before the retry of a rejected request.
FLOODER = {"username": "flooder", "email": "flooder@example.test", "password": "bench-bench"}


def logins_during_a_flood(report: Callable[[str], None]) -> Row:
    """Log ``OTHERS`` users in, without and with a flood of one account. Takes about half a minute.

    The flood repeats ``FLOOD`` simultaneous password changes from one IP address and as many
    correct logins from many IP addresses. The limits that would stop it earlier are off: only the
    queue is measured.
    """
    settings = {
        "BCRYPT_COST": str(LOWEST_PRODUCTION_COST),
        "PASSWORD_CHANGE_LIMIT": "0",
        "LOGIN_LIMITS": "0",
        "TRUSTED_PROXIES": "1",
    }
    with servers.service(**settings) as service:
        return asyncio.run(_measure(service.url, report))


async def _measure(url: str, report: Callable[[str], None]) -> Row:
    # The flood needs more connections than aiohttp's default limit.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        report(f"{OTHERS} users register ...")
        others = [
            {"username": f"other{n}", "email": f"other{n}@example.test", "password": "bench-bench"}
            for n in range(OTHERS)
        ]
        for user in (FLOODER, *others):
            async with session.post("/api/users", json={"user": user}) as response:
                assert response.status == 200, await response.text()
                token = (await response.json())["user"]["token"]
        async with session.post("/api/users/login", json={"user": FLOODER}) as response:
            token = (await response.json())["user"]["token"]
        report(f"They log in on {CONNECTIONS} connections ...")
        calm, _ = await _log_in(session, others)
        report(f"They log in while one account sends {2 * FLOOD} simultaneous requests ...")
        flood = [asyncio.create_task(_flood_with_changes(session, token)) for _ in range(FLOOD)]
        flood += [asyncio.create_task(_flood_with_logins(session, n)) for n in range(FLOOD)]
        await asyncio.sleep(2)  # Fill the queue before the measurement.
        stormed, succeeded = await _log_in(session, others)
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
    stormed.sort()
    p50, p99 = statistics.median(stormed), stormed[int(OTHERS * 0.99)]
    return Row(
        f"logins of {OTHERS} other users while one account floods",
        f"{succeeded} of {OTHERS} succeed",
        f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms",
        f"{p50 / statistics.median(calm):.1f} times the p50 without the flood",
    )


async def _log_in(
    session: aiohttp.ClientSession, users: list[dict[str, str]]
) -> tuple[list[float], int]:
    """Log the users in; return the seconds of each login and the number that succeeded."""
    waiting = list(enumerate(users))
    seconds: list[float] = []
    succeeded = 0

    async def log_in_one_after_the_other() -> None:
        nonlocal succeeded
        while waiting:
            number, user = waiting.pop()
            started = time.perf_counter()
            status = await _send(session, "POST", "/api/users/login", user, f"198.51.100.{number}")
            seconds.append(time.perf_counter() - started)
            succeeded += status == 200

    await asyncio.gather(*(log_in_one_after_the_other() for _ in range(CONNECTIONS)))
    return seconds, succeeded


async def _flood_with_changes(session: aiohttp.ClientSession, token: str) -> None:
    change = {"password": FLOODER["password"]}
    while True:
        if await _send(session, "PUT", "/api/user", change, "192.0.2.1", token) != 200:
            await asyncio.sleep(PAUSE)


async def _flood_with_logins(session: aiohttp.ClientSession, number: int) -> None:
    ip = f"203.0.113.{number}"
    while True:
        if await _send(session, "POST", "/api/users/login", FLOODER, ip) != 200:
            await asyncio.sleep(PAUSE)


async def _send(
    session: aiohttp.ClientSession,
    method: str,
    path: str,
    user: dict[str, Any],
    ip: str,
    token: str | None = None,
) -> int:
    headers = {"X-Forwarded-For": ip}
    if token is not None:
        headers["Authorization"] = f"Token {token}"
    async with session.request(method, path, json={"user": user}, headers=headers) as response:
        await response.read()
        return response.status
