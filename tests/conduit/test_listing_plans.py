"""Every query on content finds its rows in an index, with one generic plan for all calls."""

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

import sql
from tests.conduit.counts import find_wrong_counts

LARGE = {
    "articles",
    "article_tags",
    "article_slugs",
    "article_counts",
    "favorites",
    "comments",
    "follows",
    "users",
    "user_counts",
    "tag_counts",
}
ROWS = """
    insert into users (id, username, username_key, email, email_key, password_hash)
    select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid,
        'user' || n, 'user' || n, 'user' || n, 'user' || n, ''
    from generate_series(1, 3000) as n;

    insert into articles (id, author_id, slug, title, description, body, tag_list, created_at)
    select n, ('00000000-0000-0000-0000-' || lpad((n % 3000 + 1)::text, 12, '0'))::uuid,
        'slug-' || n, 'Title', 'About', 'Text', array['tag-' || n % 2000],
        now() - n * interval '1 s'
    from generate_series(1, 10000) as n;

    insert into article_slugs (slug, article_id) select slug, id from articles;

    insert into favorites (user_id, article_id)
    select ('00000000-0000-0000-0000-' || lpad((n * 7 % 3000 + 1)::text, 12, '0'))::uuid, n
    from generate_series(1, 10000) as n;

    insert into comments (article_id, author_id, body)
    select n, ('00000000-0000-0000-0000-' || lpad((n * 3 % 3000 + 1)::text, 12, '0'))::uuid, 'x'
    from generate_series(1, 10000) as n;

    insert into follows (follower_id, followed_id)
    select ('00000000-0000-0000-0000-' || lpad((n % 3000 + 1)::text, 12, '0'))::uuid,
        ('00000000-0000-0000-0000-' || lpad((n * 11 % 2999 + 1)::text, 12, '0'))::uuid
    from generate_series(1, 8000) as n on conflict do nothing;
"""
FILES = (
    "articles",
    "listing",
    "listing_combinations",
    "comments",
    "favorites",
    "tags",
    "profiles",
    "closed_accounts",
)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


async def plan_of(db: asyncpg.Connection, query: sql.Query) -> dict[str, Any]:
    """Return the generic plan, which does not depend on the arguments."""
    await db.execute(f"prepare checked as {query.text}")
    try:
        count = len(query.parameters)
        arguments = f"({', '.join(['null'] * count)})" if count else ""
        text = await db.fetchval(f"explain (format json) execute checked{arguments}")
    finally:
        await db.execute("deallocate checked")
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    return plan


@pytest.fixture
async def full(db: asyncpg.Connection) -> asyncpg.Connection:
    """Fill the database so that indexes are worth it, and force generic plans."""
    await db.execute("set plan_cache_mode = force_generic_plan")
    async with db.transaction():
        await db.execute(ROWS)
    await db.execute(f"analyze {', '.join(sorted(LARGE))}")
    return db


async def test_no_query_reads_a_whole_table(full: asyncpg.Connection) -> None:
    read = {}
    for file in FILES:
        for query in sql.NAMESPACES[file]:
            plan = await plan_of(full, query)
            scanned = [
                node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"
            ]
            if found := LARGE.intersection(scanned):
                read[f"{file}.{query.name}"] = found
    assert read == {}


async def test_plan_shows_the_read_of_a_whole_table(full: asyncpg.Connection) -> None:
    statement = "select id from articles where title = $1"
    query = sql.Query("bad", statement, ("title",), "rows", is_read_only=True, invalidates=False)
    plan = await plan_of(full, query)
    assert [node["Node Type"] for node in nodes(plan)] == ["Seq Scan"]


async def test_counts_are_exact_after_inserts_of_many_rows(full: asyncpg.Connection) -> None:
    assert await find_wrong_counts(full) == []
