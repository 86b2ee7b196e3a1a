"""Fill a migrated, empty database with articles and a proportional number of related rows.

A few authors, tags and articles have most of the rows: a rank is drawn as ``count ** random``, so
its probability is about one in ``rank * ln(count)``. Triggers and indexes are off during the fill
(this requires a superuser). The last steps compute the kept counts from the rows.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import psycopg
import psycopg.sql

CHUNK = 50_000
PASSWORD = "bench-bench"  # noqa: S105 (of every user, in a temporary database)
READER = "user11"  # Follows 200.

_STEP = re.compile(r"^-- step: (.*?)(?: \(in chunks, (\d) an article\))?$", re.MULTILINE)


def fill(url: str, articles: int, report: Callable[[str], None]) -> None:
    """Fill the database at ``url`` and call ``report`` with each step.

    A million ``articles`` take minutes.
    """
    started = time.monotonic()
    values = {
        "articles": articles,
        "users": max(articles // 20, 300),
        "tags": max(articles // 200, 100),
        "password_hash": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(12)).decode(),
    }
    with psycopg.connect(url, autocommit=True) as connection:
        indexes = _prepare(connection)
        for name, chunked, statement in read_steps("fill.sql"):
            report(f"{articles:,} articles, {time.monotonic() - started:.0f} s: {name}")
            for chunk in _chunks(int(chunked) * articles) if chunked else [{}]:
                connection.execute(statement, values | chunk)
        report(f"{articles:,} articles, {time.monotonic() - started:.0f} s: indexes")
        for definition in indexes:
            connection.execute(definition)
        connection.execute("vacuum (analyze)")


def read_steps(file: str) -> list[tuple[str, str, str]]:
    """Return the steps of a file in this folder: name, rows per article, statement.

    A step that runs once, instead of in chunks of rows, has no rows per article.
    """
    parts = _STEP.split((Path(__file__).parent / file).read_text(encoding="utf-8"))[1:]
    return list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))


def _chunks(count: int) -> list[dict[str, Any]]:
    return [
        {"first": first, "last": min(first + CHUNK - 1, count)}
        for first in range(1, count + 1, CHUNK)
    ]


def _prepare(connection: Any) -> list[str]:
    """Disable everything that slows the fill; return the definitions of the dropped indexes."""
    connection.execute("set session_replication_role = replica")
    connection.execute("set synchronous_commit = off")
    connection.execute("set maintenance_work_mem = '512MB'")
    connection.execute("select setseed(0.5)")
    connection.execute(
        """
        create function pg_temp.user_id(rank bigint) returns uuid language sql immutable
        as $$ select md5('user ' || rank)::uuid $$;
        create function pg_temp.rank(count bigint) returns bigint language sql volatile
        as $$ select least(floor(power(count, random()))::bigint, count) $$;
        """
    )
    rows = connection.execute(
        """
        select indexname, indexdef from pg_indexes
        where schemaname = 'public' and indexname like '%\\_idx' order by indexname
        """
    ).fetchall()
    for name, _ in rows:
        connection.execute(psycopg.sql.SQL("drop index {}").format(psycopg.sql.Identifier(name)))
    return [definition for _, definition in rows]
