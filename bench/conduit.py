"""The lists of articles over HTTP, with ten thousand articles and with a million."""

import contextlib
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from bench import servers
from bench.fill import PASSWORD, READER, fill
from bench.table import Row
from service.database.migrate import migrate
from service.embedded_postgres.server import EmbeddedServer

SIZES = (10_000, 1_000_000)
ROUNDS = 200
SECRET = "only for a database that is thrown away after the bench"  # noqa: S105
AIM = 1.5


@dataclass
class Subject:
    """The service with one size of data: a kept connection, a reader's token, the paths to get."""

    connection: http.client.HTTPConnection
    token: str
    paths: dict[str, str]
    database_url: str

    def send(self, path: str, method: str = "GET", body: object = None) -> float:
        """Send one request and return the milliseconds until its response was read.

        Raise ``SystemExit`` if the status is neither 200 nor 201.
        """
        sent = json.dumps(body).encode() if body is not None else None
        started = time.perf_counter()
        self.connection.request(method, path, sent, {"Authorization": f"Token {self.token}"})
        response = self.connection.getresponse()
        read = response.read()
        elapsed = (time.perf_counter() - started) * 1000
        if response.status not in (200, 201):
            raise SystemExit(f"{method} {path} responded with {response.status}: {read[:200]!r}")
        return elapsed


def measure(report: Callable[[str], None]) -> list[Row]:
    """Measure every figure of this part and return the rows of its table.

    Filling a million articles takes some minutes.
    """
    with contextlib.ExitStack() as stack:
        small, large = (stack.enter_context(_subject(size, report)) for size in SIZES)
        rows = []
        for name in small.paths:
            report(f"{name} ...")
            times: tuple[list[float], list[float]] = ([], [])
            # The sizes take turns, so that a machine that slows down affects both.
            for turn in range(ROUNDS + 20):
                for side, subject in enumerate((small, large)):
                    elapsed = subject.send(subject.paths[name])
                    if turn >= 20:
                        times[side].append(elapsed)
            before, after = (statistics.median(side) for side in times)
            rows.append(Row(name, f"{before:.2f} ms", f"{after:.2f} ms", f"{after / before:.2f}"))
        return rows + _writes(large, report)


def _writes(subject: Subject, report: Callable[[str], None]) -> list[Row]:
    """Measure the cost of the kept counts for writes: the same writes with and without triggers."""
    report("Writes with and without the kept counts ...")
    with_counts = _write_times(subject)
    with psycopg.connect(subject.database_url, autocommit=True) as connection:
        for table in ("articles", "favorites"):
            connection.execute(f"alter table {table} disable trigger user".encode())
        # A trigger that is now disabled filled this column.
        connection.execute("alter table favorites alter article_created_at set default now()")
    without = _write_times(subject)
    return [
        Row(
            f"{name}, without and with kept counts (1,000,000)",
            f"{without[name]:.2f} ms",
            f"{with_counts[name]:.2f} ms",
            f"{with_counts[name] / without[name]:.2f}",
        )
        for name in with_counts
    ]


def _write_times(subject: Subject) -> dict[str, float]:
    article = {"description": "d", "body": "b", "tagList": ["tag-1", "tag-2", "tag-3"]}
    publishing, favouring = [], []
    for number in range(ROUNDS):
        body = {"article": {"title": f"Written by the bench {number}", **article}}
        publishing.append(subject.send("/api/articles", "POST", body))
        path = f"/api/articles/how-to-do-the-thing-number-{number + 1}/favorite"
        subject.send(path, "DELETE")
        favouring.append(subject.send(path, "POST"))
    return {
        "publishing with three tags": statistics.median(publishing),
        "a favourite": statistics.median(favouring),
    }


@contextlib.contextmanager
def _subject(articles: int, report: Callable[[str], None]) -> Iterator[Subject]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = EmbeddedServer(Path(folder), report)
        try:
            url = server.start()
            migrate(url, lambda _: None)
            fill(url, articles, report)
            paths = _paths(url)
            with servers.service(DATABASE_URL=url, JWT_SECRET=SECRET) as service:
                login = {"email": f"{READER}@example.com", "password": PASSWORD}
                response = servers.call(f"{service.url}/api/users/login", {"user": login})
                connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)
                yield Subject(connection, json.loads(response)["user"]["token"], paths, url)
                connection.close()
        finally:
            server.stop()


def _paths(url: str) -> dict[str, str]:
    """Return the paths to get, by name: those of the largest tag, author and reader."""
    with psycopg.connect(url) as connection:

        def first(statement: str) -> str:
            row = connection.execute(statement).fetchone()
            assert row is not None
            return str(row[0])

        tag = first("select tag from tag_counts order by articles_count desc limit 1")
        by_count = "select username from users join user_counts on user_id = id order by {} desc"
        author = first(by_count.format("articles_count"))
        liker = first(by_count.format("favorites_count"))
        slug = first("select slug from articles order by id offset 500 limit 1")
        discussed = first("select slug from articles where id = 1")
    lists = {
        "all articles": "/api/articles?",
        "by tag": f"/api/articles?tag={tag}&",
        "by author": f"/api/articles?author={author}&",
        "favourited by": f"/api/articles?favorited={liker}&",
        "feed of a user who follows 200": "/api/articles/feed?",
    }
    return {
        **{f"{name}, first page": path + "offset=0" for name, path in lists.items()},
        **{f"{name}, page 50": path + "offset=980" for name, path in lists.items()},
        "one article": f"/api/articles/{slug}",
        "comments of an article with 500": f"/api/articles/{discussed}/comments",
        "tags": "/api/tags",
    }
