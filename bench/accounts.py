"""Accounts: the current user against a bare handler, and logins against the cost of a hash."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable

import bcrypt
import uvloop

from bench import password_hashes, second_factor, servers
from bench.client import connections, request
from bench.flood import logins_during_a_flood
from bench.load import Load, logins, read_wrk, start_wrk, wrk
from bench.table import Row
from service.accounts.passwords.hasher import usable_cores

USER = {"username": "bench", "email": "bench@example.test", "password": "bench-bench"}
ROUNDS = 6
SLICE = 1  # Seconds. Short, because the speed of a shared machine changes between slices.
STORM_ROUNDS = 5
STORM_SLICE = 2  # Seconds.
LOGINS = 200


def measure(report: Callable[[str], None]) -> list[Row]:
    """Measure every figure of this part and return the rows of its table.

    Takes about two minutes and a half.
    """
    with servers.service() as service, servers.service(USER_CACHE_SIZE="0") as uncached_service:
        url, uncached_url = service.url, uncached_service.url
        token = _sign_in(url)
        body = servers.call(f"{url}/api/user", token=token)
        with servers.bare(body) as bare_server:
            bare_url = bare_server.url
            subjects = {bare_url: token, url: token, uncached_url: _sign_in(uncached_url)}
            bare, current, uncached = _in_turn(subjects, report)
        report("Logins: 8 connections without pause ...")
        hash_seconds = hash_seconds_of()
        most = usable_cores() / hash_seconds
        login_rate = asyncio.run(logins(url, USER, seconds=15))
        calm, stormed = _with_and_without_logins(url, token, report)
    others = logins_during_a_flood(report)
    report("Logins one after the other, almost without a hash ...")
    with servers.service(BCRYPT_COST="4") as service:
        rows_seconds = uvloop.run(_login_seconds(service.url)) - hash_seconds_of(4)
    both_seconds = uvloop.run(second_factor.login_seconds(report, "4")) - hash_seconds_of(4)
    return [
        Row("bare aiohttp handler", f"{bare.rate:,.0f} /s", f"p99 {bare.p99:.2f} ms", ""),
        Row(
            "GET /api/user, 32 connections",
            f"{current.rate:,.0f} /s",
            f"p99 {current.p99:.2f} ms",
            f"{current.rate / bare.rate:.2f} of the bare handler",
        ),
        Row(
            "the same with the cache off",
            f"{uncached.rate:,.0f} /s",
            f"p99 {uncached.p99:.2f} ms",
            f"{current.rate / uncached.rate:.1f} times as fast with it",
        ),
        Row(
            "logins, 8 connections",
            f"{login_rate:.2f} /s",
            f"one hash {hash_seconds * 1000:.0f} ms",
            f"{login_rate / most:.2f} of cores ÷ hash",
        ),
        Row(
            "one login without the hash",
            f"{rows_seconds * 1000:.1f} ms",
            "throttle, session, refresh token, event",
            f"{rows_seconds / hash_seconds:.1%} of a hash",
            "at most 1.5 ms",
        ),
        Row(
            "one login with TOTP without the hash",
            f"{both_seconds * 1000:.1f} ms",
            "two requests: the same, challenge and code",
            f"{both_seconds / rows_seconds:.1f} times one without TOTP",
        ),
        Row(
            "GET /api/user during the logins",
            f"{stormed.rate:,.0f} /s",
            f"p99 {stormed.p99:.2f} ms",
            f"{stormed.rate / calm.rate:.2f} of its rate, "
            f"{stormed.p99 / calm.p99:.1f} times its p99 without logins",
        ),
        others,
        *password_hashes.measure(report),
    ]


def _sign_in(url: str) -> str:
    servers.call(f"{url}/api/users", {"user": USER})
    response = json.loads(servers.call(f"{url}/api/users/login", {"user": USER}))
    return str(response["user"]["token"])


def _in_turn(subjects: dict[str, str], report: Callable[[str], None]) -> list[Load]:
    """Load each URL of ``subjects``, with its token, and return the median of each.

    The URLs take turns, so that a machine that slows down affects all of them.
    """
    loads: dict[str, list[Load]] = {url: [] for url in subjects}
    for number in range(-1, ROUNDS):
        report(f"GET /api/user, round {number + 1} of {ROUNDS} (0 is a warm-up) ...")
        for url, token in subjects.items():
            load = wrk(f"{url}/api/user", token, seconds=SLICE)
            if number >= 0:
                loads[url].append(load)
    return [_median(seen) for seen in loads.values()]


def _median(loads: list[Load]) -> Load:
    return Load(
        statistics.median(load.rate for load in loads),
        statistics.median(load.p99 for load in loads),
    )


def hash_seconds_of(cost: int = 12) -> float:
    """Return the seconds that one hash of ``cost`` takes on one core: the best of three."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        bcrypt.hashpw(b"bench-bench", bcrypt.gensalt(cost))
        times.append(time.perf_counter() - started)
    return min(times)


async def _login_seconds(url: str) -> float:
    """Return the seconds of one login for its client: the median of ``LOGINS`` in a row."""
    servers.call(f"{url}/api/users", {"user": USER})
    data = request("POST", "/api/users/login", body=json.dumps({"user": USER}).encode())
    times = []
    async with connections(url, 1) as (connection,):
        for _ in range(LOGINS):
            started = time.perf_counter()
            await connection.exchange(data)
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _with_and_without_logins(url: str, token: str, report: Callable[[str], None]) -> list[Load]:
    """Return the medians without a storm of logins and during one, measured in turn as above."""

    async def storm() -> Load:
        running = asyncio.create_task(logins(url, USER, seconds=STORM_SLICE + 2))
        await asyncio.sleep(1)  # Start the storm before the measurement.
        process = start_wrk(f"{url}/api/user", token, seconds=STORM_SLICE)
        load = await asyncio.to_thread(read_wrk, process)
        await running
        return load

    calm, stormed = [], []
    for number in range(STORM_ROUNDS):
        report(
            f"GET /api/user while 8 connections log in, round {number + 1} of {STORM_ROUNDS} ..."
        )
        calm.append(wrk(f"{url}/api/user", token, seconds=STORM_SLICE))
        stormed.append(asyncio.run(storm()))
    return [_median(calm), _median(stormed)]
