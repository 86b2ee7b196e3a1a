"""Sessions: invalidation in another process, and a million sessions."""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import bcrypt
import psycopg

from bench import servers
from bench.load import start_wrk
from bench.table import Row
from service.accounts.sessions.access_tokens import AccessTokens
from service.database.migrate import migrate
from service.embedded_postgres.server import EmbeddedServer
from service.settings.missing import LOWEST_PRODUCTION_COST

SIZES = (10_000, 1_000_000)
SECRET = "only for a database that is thrown away after the bench"  # noqa: S105
PASSWORD = "bench-bench"  # noqa: S105
CHANGES = 900
ROUNDS = 300
CACHED_SESSIONS = 20_000
CONNECTIONS = 8
FIRST_REQUESTS = 4  # Sent to the other process immediately after each change.
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Change:
    """A request whose effect must be visible in every process."""

    method: str
    path: str
    body: Any = None
    by_another_device: bool = False


KINDS = (
    Change("POST", "/api/auth/logout"),
    Change("DELETE", "/api/user/sessions/{id}", by_another_device=True),
    Change("PUT", "/api/user", {"user": {"password": f"{PASSWORD}!"}}, by_another_device=True),
    Change("PUT", "/api/user", {"user": {"bio": "new"}}),
    Change("DELETE", "/api/user", {"user": {"password": PASSWORD}}),
)


@dataclass
class Sessions:
    """A database with open sessions, and the service that uses it."""

    database_url: str
    service: servers.Service
    taken: int = 0

    @property
    def base(self) -> str:
        """The base URL of the service."""
        return self.service.url

    def stored(self) -> int:
        """Return the size of the session tables on disk in bytes, with their indexes."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(
                "select pg_total_relation_size('sessions')"
                " + pg_total_relation_size('refresh_tokens')"
            ).fetchone()
        assert row is not None
        return int(row[0])

    def take(self, count: int) -> list[tuple[str, str]]:
        """Return an access and a refresh token for each of ``count`` sessions not taken before."""
        # bench/sessions.sql has written the plain refresh token to the column user_agent.
        tokens = AccessTokens(SECRET, (), 86_400)
        with psycopg.connect(self.database_url) as connection:
            rows: list[tuple[UUID, UUID, datetime, str]] = connection.execute(
                "select id, user_id, expires_at, user_agent from sessions"
                ' order by user_agent collate "C" offset %s limit %s',
                (self.taken, count),
            ).fetchall()
        self.taken += count
        return [
            (tokens.issue(user, id_, end.timestamp()).token, plain)
            for id_, user, end, plain in rows
        ]

    def users_with_two_sessions(self, count: int) -> list[tuple[UUID, str, str]]:
        """Return, for ``count`` users, the id of an open session and two access tokens.

        The first token belongs to that session, the second to another session of the user.
        """
        tokens = AccessTokens(SECRET, (), 86_400)
        with psycopg.connect(self.database_url) as connection:
            rows: list[tuple[UUID, list[UUID], datetime]] = connection.execute(
                "select user_id, (array_agg(id))[1:2], min(expires_at) from sessions"
                " where ended_at is null group by user_id having count(*) > 1"
                " order by user_id limit %s",
                (count,),
            ).fetchall()
        assert len(rows) == count, "each change takes a user of its own"

        def access(user: UUID, session_id: UUID, end: datetime) -> str:
            return tokens.issue(user, session_id, end.timestamp()).token

        return [
            (one, access(user, one, end), access(user, another, end))
            for user, (one, another), end in rows
        ]


@contextlib.contextmanager
def open_sessions(count: int, report: Callable[[str], None]) -> Iterator[Sessions]:
    """Start a database with ``count`` open sessions, ten for each user, and the service on it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = EmbeddedServer(Path(folder), report)
        try:
            url = server.start()
            migrate(url, lambda _: None)
            report(f"{count:,} sessions ...")
            hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(LOWEST_PRODUCTION_COST))
            with psycopg.connect(url, autocommit=True) as connection:
                statements = (Path(__file__).parent / "sessions.sql").read_text(encoding="utf-8")
                for statement in statements.split(";\n"):
                    connection.execute(
                        statement, {"count": count, "password_hash": hashed.decode()}
                    )
            # The lowest cost: a password change measures the invalidation, not the hash.
            cost = str(LOWEST_PRODUCTION_COST)
            with servers.service(DATABASE_URL=url, JWT_SECRET=SECRET, BCRYPT_COST=cost) as service:
                yield Sessions(url, service)
        finally:
            server.stop()


def measure(report: Callable[[str], None]) -> list[Row]:
    """Measure every figure of this part and return the rows of its table.

    Takes about two minutes.
    """
    with contextlib.ExitStack() as stack:
        small, large = (stack.enter_context(open_sessions(size, report)) for size in SIZES)
        rows = []
        report("Refreshes and ends of sessions at both sizes, in turn ...")
        for name, act in (("one refresh", _refresh), ("one logout", _log_out)):
            times: tuple[list[float], list[float]] = ([], [])
            asyncio.run(_in_turn((small, large), act, times))
            before, after = (statistics.median(side) for side in times)
            what = f"{name} among 10,000 and 1,000,000 sessions"
            rows.append(Row(what, f"{before:.2f} ms", f"{after:.2f} ms", f"{after / before:.2f}"))
        rows += [*_sizes(small, large), asyncio.run(_cached_memory(large, report))]
        # Last, because it ends or deletes most sessions of the smaller database.
        rows.insert(0, asyncio.run(_invalidations(small, report)))
        return rows


def _sizes(small: Sessions, large: Sessions) -> list[Row]:
    few, many = small.service.memory(), large.service.memory()
    on_disk = [sessions.stored() for sessions in (small, large)]
    return [
        Row(
            "memory of a process among 10,000 and 1,000,000 sessions",
            f"{few / MEGABYTE:,.0f} MB",
            f"{many / MEGABYTE:,.0f} MB",
            f"{many / few:.2f}",
        ),
        Row(
            "10,000 and 1,000,000 sessions on disk",
            f"{on_disk[0] / MEGABYTE:,.1f} MB",
            f"{on_disk[1] / MEGABYTE:,.0f} MB",
            f"{on_disk[1] / SIZES[1]:,.0f} bytes each",
        ),
    ]


async def _cached_memory(sessions: Sessions, report: Callable[[str], None]) -> Row:
    """Measure the growth of a process that has served ``CACHED_SESSIONS`` sessions."""
    report(f"{CACHED_SESSIONS:,} sessions send one request each to one process ...")
    before = sessions.service.memory()
    waiting = sessions.take(CACHED_SESSIONS)

    async def get_user(client: aiohttp.ClientSession) -> None:
        while waiting:
            headers = {"Authorization": f"Token {waiting.pop()[0]}"}
            async with client.get(f"{sessions.base}/api/user", headers=headers) as response:
                assert response.status == 200, await response.text()

    async with aiohttp.ClientSession() as client:
        await asyncio.gather(*(get_user(client) for _ in range(CONNECTIONS)))
    grown = sessions.service.memory() - before
    return Row(
        f"memory of a process, {CACHED_SESSIONS:,} users in its cache",
        f"{before / MEGABYTE:,.0f} MB",
        f"{(before + grown) / MEGABYTE:,.0f} MB",
        f"{grown / CACHED_SESSIONS:,.0f} bytes each",
    )


async def _post(client: aiohttp.ClientSession, url: str, plain: str) -> str:
    async with client.post(url, json={"refresh_token": plain}) as response:
        body = await response.json()
        if response.status != 200:
            raise SystemExit(f"A refresh responded with {response.status}: {body}")
        return str(body["refresh_token"])


async def _invalidations(sessions: Sessions, report: Callable[[str], None]) -> Row:
    """Measure how long after the response to a change another process does not show it.

    The other process is under load. Immediately after the response to the change, some requests are
    sent to it on separate connections. Each is repeated until its response shows the change.
    """
    report(f"{CHANGES:,} changes in one process, seen from another under load ...")
    # Milliseconds of each request, 0 if its first response shows the change.
    late: list[float] = []
    settings = {"DATABASE_URL": sessions.database_url, "JWT_SECRET": SECRET}
    with servers.service(**settings) as service:
        other = f"{service.url}/api/user"
        users = sessions.users_with_two_sessions(CHANGES + 1)
        _, _, busy = users.pop()
        load = start_wrk(other, busy, seconds=3_600, connections=8)

        async def until_shown(headers: dict[str, str], changed: float) -> float:
            last_unchanged = changed
            while True:
                async with client.get(other, headers=headers) as response:
                    if response.status == 401 or b'"bio":"new"' in await response.read():
                        return (last_unchanged - changed) * 1000
                last_unchanged = time.perf_counter()

        async with aiohttp.ClientSession() as client:
            for change, (session_id, access, another) in zip(cycle(KINDS), users, strict=False):
                actor = another if change.by_another_device else access
                headers = {"Authorization": f"Token {access}"}
                async with client.get(other, headers=headers) as response:
                    assert response.status == 200, await response.text()
                async with client.request(
                    change.method,
                    sessions.base + change.path.format(id=session_id),
                    json=change.body,
                    headers={"Authorization": f"Token {actor}"},
                ) as response:
                    assert response.status in (200, 204), await response.text()
                    changed = time.perf_counter()
                late += await asyncio.gather(
                    *(until_shown(headers, changed) for _ in range(FIRST_REQUESTS))
                )
        load.kill()
        load.communicate()
    late.sort()
    return Row(
        "time that another process still responds as before a logout, an ended session,"
        " a new password, a new profile or a deletion",
        f"p99.9 {late[int(len(late) * 0.999)]:.1f} ms",
        f"longest {late[-1]:.1f} ms",
        f"{late.count(0):,} of {len(late):,} first responses show it",
    )


Act = Callable[[aiohttp.ClientSession, str, str, str], Awaitable[None]]


async def _in_turn(
    both: tuple[Sessions, Sessions], act: Act, times: tuple[list[float], list[float]]
) -> None:
    async with aiohttp.ClientSession() as client:
        taken = [sessions.take(ROUNDS) for sessions in both]
        for turn in range(ROUNDS):
            for side, sessions in enumerate(both):
                access, plain = taken[side][turn]
                started = time.perf_counter()
                await act(client, sessions.base, access, plain)
                times[side].append((time.perf_counter() - started) * 1000)


async def _refresh(client: aiohttp.ClientSession, base: str, _: str, plain: str) -> None:
    await _post(client, f"{base}/api/auth/refresh", plain)


async def _log_out(client: aiohttp.ClientSession, base: str, access: str, _: str) -> None:
    headers = {"Authorization": f"Token {access}"}
    async with client.post(f"{base}/api/auth/logout", headers=headers) as response:
        assert response.status == 204, await response.text()
