"""The deletion of a large account, and its effect on the requests of other users."""

import contextlib
import http.client
import json
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from bench import servers
from bench.fill import PASSWORD, fill, read_steps
from bench.table import Row
from service.database.migrate import migrate
from service.embedded_postgres.server import EmbeddedServer

OTHERS = 20_000  # Articles of other accounts.
ARTICLES = 100_000
CALM = 5.0  # Seconds to measure other users without a deletion.
REMOVAL_TIMEOUT = 90.0  # Seconds to wait until the whole account is removed.
SECRET = "only for a database that is thrown away after the bench"  # noqa: S105
REMAINS = """
    select count(*) from (
        select from articles where author_id = md5('leaver')::uuid
        union all
        select from users where id = md5('leaver')::uuid
    ) as remains
"""


@dataclass
class OtherUser:
    """One connection of another user that repeats ``act`` until ``is_over`` is set."""

    url: str
    token: str
    act: Callable[["OtherUser"], None]
    times: list[float] = field(default_factory=list)
    failures: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    def send(self, method: str, path: str, body: object = None) -> bytes:
        """Send one request, record its milliseconds and return the body of the response."""
        sent = json.dumps(body).encode() if body is not None else None
        started = time.perf_counter()
        self._connection.request(method, path, sent, {"Authorization": f"Token {self.token}"})
        response = self._connection.getresponse()
        content = response.read()
        self.times.append((time.perf_counter() - started) * 1000)
        self.failures += response.status >= 500
        return content

    def run(self) -> None:
        """Repeat ``act`` until ``is_over`` is set."""
        self._connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        with contextlib.closing(self._connection):
            while not self.is_over.is_set():
                self.act(self)


def read_lists(user: OtherUser) -> None:
    """Read a page of all articles and one of a tag that the large account uses."""
    user.send("GET", "/api/articles")
    user.send("GET", "/api/articles?tag=tag-1")


def publish_and_delete(user: OtherUser) -> None:
    """Publish an article with tags that the large account uses, and delete it."""
    article = {"title": "Fresh", "description": "d", "body": "b", "tagList": ["tag-1", "tag-2"]}
    response = json.loads(user.send("POST", "/api/articles", {"article": article}))
    if "article" in response:
        user.send("DELETE", f"/api/articles/{response['article']['slug']}")


ACTS = {"reading lists": read_lists, "publishing and deleting an article": publish_and_delete}


def measure(report: Callable[[str], None]) -> list[Row]:
    """Measure every figure of this part and return the rows of its table."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        server = EmbeddedServer(Path(folder), report)
        stack.callback(server.stop)
        url = server.start()
        migrate(url, lambda _: None)
        fill(url, OTHERS, report)
        _fill_account(url, report)
        service = stack.enter_context(servers.service(DATABASE_URL=url, JWT_SECRET=SECRET))
        report("Other users without a deletion ...")
        with_calm = _with_other_users(service.url, lambda: time.sleep(CALM))
        report(f"The deletion of an account with {ARTICLES:,} articles ...")
        took: dict[str, str] = {}
        meanwhile = _with_other_users(service.url, lambda: _delete(service.url, url, took))
        rows = [Row(f"{what} ({ARTICLES:,} articles)", "", how, "") for what, how in took.items()]
        for name in ACTS:
            before, after = max(with_calm[name].times), max(meanwhile[name].times)
            rows.append(
                Row(
                    f"slowest request of another user, {name}",
                    f"{before:.0f} ms",
                    f"{after:.0f} ms",
                    f"{after / before:.1f}",
                )
            )
        failures = [sum(s.failures for s in side.values()) for side in (with_calm, meanwhile)]
        return [*rows, Row("responses of 500 and above", str(failures[0]), str(failures[1]), "")]


def _fill_account(url: str, report: Callable[[str], None]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("select password_hash from users limit 1").fetchone()
        assert row is not None
        values = {"password_hash": row[0], "articles": ARTICLES}
        for name, _, statement in read_steps("deletion.sql"):
            report(f"The large account: {name}")
            connection.execute(statement, values)
        connection.execute("vacuum (analyze)")


def _login(url: str, name: str) -> str:
    user = {"email": f"{name}@example.com", "password": PASSWORD}
    response = json.loads(servers.call(f"{url}/api/users/login", {"user": user}))
    return str(response["user"]["token"])


def _with_other_users(url: str, work: Callable[[], None]) -> dict[str, OtherUser]:
    """Run ``work`` while other users send requests; return those users by name."""
    others = {name: OtherUser(url, _login(url, "user11"), act) for name, act in ACTS.items()}
    threads = [threading.Thread(target=user.run) for user in others.values()]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        for user in others.values():
            user.is_over.set()
        for thread in threads:
            thread.join()
    return others


def _delete(url: str, database_url: str, took: dict[str, str]) -> None:
    """Delete the account, wait until all its rows are removed and put both times into ``took``."""
    token = _login(url, "leaver")
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    started = time.monotonic()
    body = json.dumps({"user": {"password": PASSWORD}})
    connection.request("DELETE", "/api/user", body, {"Authorization": f"Token {token}"})
    status = connection.getresponse().status
    took["DELETE /api/user"] = f"{status} after {time.monotonic() - started:.2f} s"
    connection.close()
    with psycopg.connect(database_url, autocommit=True) as database:
        while (row := database.execute(REMAINS).fetchone()) and row[0]:
            if status != 204 or time.monotonic() - started > REMOVAL_TIMEOUT:
                took["until all of it is removed"] = "never"
                return
            time.sleep(0.2)
    took["until all of it is removed"] = f"{time.monotonic() - started:.1f} s"
