"""The data that most figures share: 1,000 articles, and 5,000 sessions of 300 users."""

import contextlib
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import md5, sha256
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import uvloop

from bench import servers
from bench.client import request, send_all
from bench.fill import fill
from bench.table import Report
from service.accounts.sessions.access_tokens import AccessTokens
from service.database.migrate import migrate
from service.embedded_postgres.server import EmbeddedServer

ARTICLES = 1_000
USERS = 300
SESSIONS = 5_000
SECRET = "only for a database that is thrown away after the bench"  # noqa: S105
COMMENT = b'{"comment":{"body":"Nothing but a comment"}}'

# What people do, in percent of the requests: 95 reads and 5 writes.
MIX = {
    "list": 15,
    "list, signed in": 15,
    "article": 25,
    "profile": 10,
    "user": 20,
    "tags": 10,
    "comment": 3,
    "favourite": 2,
}


@dataclass(frozen=True)
class Site:
    """A filled database and the tokens of its sessions."""

    database_url: str
    postgres: int
    access_tokens: list[str]
    refresh_tokens: list[str]

    def service(
        self, processes: int = 1, **settings: str
    ) -> contextlib.AbstractContextManager[servers.Service]:
        """Return a context manager that runs the service with ``processes`` on this database."""
        own = {"DATABASE_URL": self.database_url, "JWT_SECRET": SECRET}
        return servers.service(**{**own, "WEB_CONCURRENCY": str(processes), **settings})

    @contextlib.contextmanager
    def warm_service(self, processes: int = 1, **settings: str) -> Iterator[servers.Service]:
        """Run the service with ``processes``, and request the user of each session first.

        The first request of a session in a process reads it from the database, and is no figure of
        a service that has been running for a while.
        """
        with self.service(processes, **settings) as service:
            # Each pass over the sessions is distributed at random to the processes.
            passes = 1 if processes == 1 else 5
            requests = [request("GET", "/api/user", token) for token in self.access_tokens]
            uvloop.run(send_all(service.url, requests * passes))
            yield service

    def requests(self, mix: dict[str, int], seed: int = 1) -> Iterator[bytes]:
        """Yield requests of random sessions and articles, in the shares of ``mix``, without end."""
        drawn = random.Random(seed)
        kinds = [kind for kind, share in mix.items() for _ in range(share)]
        while True:
            token = drawn.choice(self.access_tokens)
            yield _request(drawn.choice(kinds), drawn.randint(1, ARTICLES), token)


def _request(kind: str, number: int, token: str) -> bytes:
    article = f"/api/articles/how-to-do-the-thing-number-{number}"
    match kind:
        case "list":
            return request("GET", "/api/articles?limit=20")
        case "list, signed in":
            return request("GET", "/api/articles?limit=20", token)
        case "article":
            return request("GET", article, token)
        case "profile":
            return request("GET", f"/api/profiles/user{1 + number % USERS}", token)
        case "user":
            return request("GET", "/api/user", token)
        case "tags":
            return request("GET", "/api/tags")
        case "comment":
            return request("POST", f"{article}/comments", token, COMMENT)
        case _:
            return request("POST", f"{article}/favorite", token)


@contextlib.contextmanager
def site(report: Report) -> Iterator[Site]:
    """Start an embedded database and fill it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = EmbeddedServer(Path(folder), lambda _: None)
        try:
            url = server.start()
            report(f"Filling a database: {ARTICLES:,} articles, {SESSIONS:,} sessions ...")
            migrate(url, lambda _: None)
            fill(url, ARTICLES, lambda _: None)
            assert server.pid is not None
            yield Site(url, server.pid, *_open_sessions(url))
        finally:
            server.stop()


def _open_sessions(url: str) -> tuple[list[str], list[str]]:
    """Insert the sessions; return their access tokens and their refresh tokens."""
    tokens = AccessTokens(SECRET, (), 86_400)
    ends = datetime.now(UTC) + timedelta(days=30)
    users = [
        UUID(md5(f"user {1 + n % USERS}".encode(), usedforsecurity=False).hexdigest())
        for n in range(SESSIONS)
    ]
    sessions = [uuid4() for _ in users]
    plain = [f"{uuid4().hex}-bench" for _ in users]
    digests = [sha256(token.encode()).digest() for token in plain]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into sessions (id, user_id, expires_at, idle_expires_at)"
            " select *, %s, now() + interval '7 days' from unnest(%s::uuid[], %s::uuid[])",
            (ends, sessions, users),
        )
        connection.execute(
            "insert into refresh_tokens (digest, session_id, generation)"
            " select *, 0 from unnest(%s::bytea[], %s::uuid[])",
            (digests, sessions),
        )
        connection.execute("vacuum (analyze)")
    expiry = time.time() + 86_400
    access = [
        tokens.issue(user, session, expiry).token
        for user, session in zip(users, sessions, strict=True)
    ]
    return access, plain
