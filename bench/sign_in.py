"""The parts of a login without its hash: the client and HTTP, two statements, and the rest."""

import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import uvloop

from bench import servers
from bench.accounts import USER, hash_seconds_of
from bench.client import connections, request
from bench.second_factor import database_url_of
from bench.table import Report, Row
from service.accounts.passwords.hash_queue import HashQueue, Requester
from service.accounts.sessions.authentication_methods import PASSWORD
from service.accounts.sessions.sessions import open_session_of_known_login
from service.accounts.throttling.login_attempts import LoginAttempts, unknown_account_id
from service.database.pool import Database
from service.http.client import Client
from service.settings.settings import Settings

LOGINS = 400
WARM_UP = 50
HASH_COST = "4"
CLIENT = Client.at("127.0.0.1")
EMAIL = USER["email"]
LOGIN = "the login"
BARE = "a bare handler of aiohttp: the client, the sockets, HTTP"
ADMIT = "the statement before the hash"
HAND_OFF = "an empty job on a hashing thread"
OPEN = "the statement after the hash"
ADMIT_WITHOUT_FLUSH = f"{ADMIT}, without waiting for the disk"
OPEN_WITHOUT_FLUSH = f"{OPEN}, without waiting for the disk"
COMMIT = "one row inserted by a statement of its own"

Times = dict[str, list[float]]


def measure(report: Report) -> list[Row]:
    """Measure every part and return the rows of its table. Takes half a minute."""
    report(f"The parts of a login, {LOGINS} logins one after the other ...")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as data,
        servers.service(BCRYPT_COST=HASH_COST, DATA_DIR=data) as service,
        servers.bare(servers.call(f"{service.url}/api/users", {"user": USER})) as bare,
    ):
        database_url = database_url_of(Path(data))
        times = uvloop.run(_measure(service.url, bare.url, database_url))
    hash_ms = hash_seconds_of(int(HASH_COST)) * 1000
    whole = _median(times[LOGIN]) - hash_ms
    rest = whole - sum(_median(times[name]) for name in (BARE, ADMIT, HAND_OFF, OPEN))
    rows = {
        "one login without the hash": (whole, min(times[LOGIN]) - hash_ms),
        **{name: (_median(seen), min(seen)) for name, seen in list(times.items())[1:]},
    }
    return [
        *(
            Row(name, f"{median:.2f} ms", f"{fastest:.2f} ms", f"{median / whole:.0%}")
            for name, (median, fastest) in rows.items()
        ),
        Row("the rest: the Python of the service", f"{rest:.2f} ms", "", f"{rest / whole:.0%}"),
    ]


async def _measure(url: str, bare_url: str, database_url: str) -> Times:
    """Return the milliseconds of each part. All take turns."""
    login = request("POST", "/api/users/login", body=json.dumps({"user": USER}).encode())
    current = request("GET", "/api/user")
    settings = Settings.load({})
    durable, lazy = Database(database_url, 1), Database(database_url, 1)
    plain = await asyncpg.connect(database_url)
    await plain.execute("create table bench_commits (id integer)")
    for database in (durable, lazy):
        await database.open()
    await lazy.transact(lambda connection: connection.execute("set synchronous_commit = off"))
    queue, requester = HashQueue(1, 1, lambda: None), Requester("", uuid4())
    times: Times = {
        name: []
        for name in (
            LOGIN,
            BARE,
            ADMIT,
            HAND_OFF,
            OPEN,
            ADMIT_WITHOUT_FLUSH,
            OPEN_WITHOUT_FLUSH,
            COMMIT,
        )
    }

    async def timed(name: str, action: Callable[[], Awaitable[Any]]) -> Any:
        started = time.perf_counter()
        result = await action()
        times[name].append((time.perf_counter() - started) * 1000)
        return result

    async def statements(database: Database, first: str, second: str) -> None:
        attempts = LoginAttempts(database, settings)
        admission = attempts.admit(unknown_account_id(EMAIL), CLIENT, EMAIL)
        attempt = await timed(first, admission.__aenter__)

        async def open_session() -> None:
            counts, session = await open_session_of_known_login(
                database,
                CLIENT,
                settings,
                user_id=attempt.user["id"],
                password_version=attempt.user["password_version"],
                methods=PASSWORD,
                success=attempt.success(),
            )
            assert session is not None
            attempt.note_success(counts)

        await timed(second, open_session)
        await admission.__aexit__(None, None, None)

    async with connections(url, 1) as (client,), connections(bare_url, 1) as (bare,):
        for number in range(-WARM_UP, LOGINS):
            if number == 0:
                for seen in times.values():
                    seen.clear()
            await timed(LOGIN, lambda: client.exchange(login))
            await timed(BARE, lambda: bare.exchange(current))
            await timed(HAND_OFF, lambda: queue.run(lambda: None, requester, is_login=True))
            await statements(durable, ADMIT, OPEN)
            await statements(lazy, ADMIT_WITHOUT_FLUSH, OPEN_WITHOUT_FLUSH)
            await timed(COMMIT, lambda: plain.execute("insert into bench_commits values (1)"))
    queue.close()
    await plain.close()
    for database in (durable, lazy):
        await database.close()
    return times


def _median(values: list[float]) -> float:
    return statistics.median(values)
