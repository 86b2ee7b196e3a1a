"""The export of everything that is stored about a person."""

import asyncio
import re
import tracemalloc
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from aiohttp import ClientPayloadError

import sql
from service.conduit import export
from service.database.circuit_breaker import DatabaseUnavailable
from tests.accounts.proofs import make_proofs_stale
from tests.conftest import Client, Device

EXPORT = "/api/user/export"

LEFT_OUT = {
    "api_keys": "keys of administrators and services, of no person",
    "article_counts": "counts of articles, which are in the document",
    "article_totals": "counts of articles of no person",
    "article_slugs": "former slugs of articles",
    "article_tags": "an index of the tags in the articles",
    "outbox": "mails on their way, which are deleted after they were sent",
    "refresh_tokens": "digests of secrets",
    "signing_keys": "keys of the service, of no person",
    "tag_counts": "counts of tags, of no person",
    "throttle": "digests and counts, which expire",
    "user_counts": "counts of what is in the document",
}
"""The other tables, with the reason why the document leaves them out."""

INSERT_ARTICLES = """
    insert into articles (author_id, slug, title, description, body, created_at)
    select users.id, 'a-' || n, 'title', 'description', repeat('x', $2), now() - n * interval '1 s'
    from users, generate_series(1, $1::integer) as n
"""


@pytest.fixture
async def device(client: Client) -> Device:
    return await client.open_account("alice")


async def document(client: Client, device: Device) -> Any:
    response = await client.get(EXPORT, token=device.access)
    assert response.status == 200, response
    return response.body


async def test_every_table_is_exported_or_left_out_for_a_reason(db: asyncpg.Connection) -> None:
    rows = await db.fetch(
        "select tablename from pg_tables where schemaname = 'public' and tablename !~ 'yoyo'"
    )
    tables = {row["tablename"] for row in rows}
    assert tables >= export.EXPORTED_TABLES
    assert tables - export.EXPORTED_TABLES <= set(LEFT_OUT)
    assert not export.EXPORTED_TABLES & set(LEFT_OUT)


def test_queries_read_every_exported_table() -> None:
    text = Path("sql/conduit/export.sql").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:from|join) (\w+)", text)) - {"page"}
    # Of the secrets in totp_secrets the document says only whether there is one.
    assert named == export.EXPORTED_TABLES - {"totp_secrets"}


async def test_export_has_the_account_and_its_content(
    client: Client, device: Device, bob: str, db: asyncpg.Connection
) -> None:
    article = {"title": "Dragons", "description": "d", "body": "b", "tagList": ["x"]}
    await client.post("/api/articles", {"article": article}, token=device.access)
    await client.post("/api/articles/dragons/comments", {"comment": {"body": "Hi"}}, token=bob)
    comment = {"comment": {"body": "Mine"}}
    await client.post("/api/articles/dragons/comments", comment, token=device.access)
    await client.post("/api/articles/dragons/favorite", token=device.access)
    await client.post("/api/profiles/bob/follow", token=device.access)
    body = await document(client, device)
    assert set(body) == {"account", *(section.name for section in export.SECTIONS)}
    account = body["account"]
    assert (account["username"], account["email"]) == ("alice", "alice@example.test")
    assert (account["has_password"], account["two_factor_since"]) == (True, None)
    assert account["created_at"].endswith("Z")
    assert [session["id"] for session in body["sessions"]] == [device.session]
    assert [(event["kind"], event["amr"]) for event in body["events"]] == [("registered", ["pwd"])]
    assert [known["ip_key"] for known in body["known_ips"]] == ["127.0.0.1"]
    assert [link["purpose"] for link in body["links"]] == ["verify_email"]
    assert [user["username"] for user in body["following"]] == ["bob"]
    (dragons,) = body["articles"]
    assert (dragons["slug"], dragons["body"], dragons["tag_list"]) == ("dragons", "b", ["x"])
    assert [comment["body"] for comment in body["comments"]] == ["Mine"]
    assert [favorite["article"] for favorite in body["favorites"]] == ["dragons"]
    text = orjson.dumps(body).decode()
    for secret in ("$2b$", "digest", "password_hash", "bob@example.test"):
        assert secret not in text


async def test_export_is_a_file_that_no_cache_stores(client: Client, device: Device) -> None:
    response = await client.get(EXPORT, token=device.access)
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="account.json"'
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Request-ID"]
    headers = {"Authorization": f"Token {device.access}"}
    async with client.http.head(EXPORT, headers=headers) as head:
        assert (head.status, await head.read()) == (200, b"")
        assert head.headers["Content-Disposition"] == 'attachment; filename="account.json"'


async def test_export_needs_fresh_proof(
    client: Client, device: Device, db: asyncpg.Connection
) -> None:
    await make_proofs_stale(client, db)
    response = await client.get(EXPORT, token=device.access)
    assert (response.status, response.body["code"]) == (403, "reauthentication_required")


async def test_every_page_is_exported_once(
    client: Client, device: Device, db: asyncpg.Connection
) -> None:
    await db.execute(INSERT_ARTICLES, 1_234, 3)
    await db.execute(
        "insert into events (user_id, kind) select id, 'signed_in' from users,"
        " generate_series(1, 2500)"
    )
    await db.execute(
        "insert into favorites (user_id, article_id) select users.id, articles.id"
        " from users, articles"
    )
    await db.execute(
        "insert into comments (author_id, article_id, body)"
        " select users.id, articles.id, 'c' from users, articles"
    )
    body = await document(client, device)
    for name in ("articles", "comments", "favorites"):
        assert len(body[name]) == 1_234, name
    assert len({article["slug"] for article in body["articles"]}) == 1_234
    assert len({event["id"] for event in body["events"]}) == 2_501


async def test_100000_articles_take_the_memory_of_one_page(
    client: Client, device: Device, db: asyncpg.Connection
) -> None:
    await db.execute(INSERT_ARTICLES, 100_000, 100)
    headers = {"Authorization": f"Token {device.access}"}
    size = 0
    async with client.http.get(EXPORT, headers=headers) as response:
        await response.content.readany()
        tracemalloc.start()
        try:
            async for chunk in response.content.iter_any():
                size += len(chunk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert size > 25_000_000
    assert peak < 8_000_000


async def test_bodies_of_a_page_have_about_a_megabyte(
    client: Client, device: Device, db: asyncpg.Connection
) -> None:
    await db.execute(INSERT_ARTICLES, 30, 400_000)
    after = {"after_time": export.BEGINNING, "after_id": 0}
    user_id = await db.fetchval("select id from users")
    rows = await sql.export.list_articles(db, user_id=user_id, **after)
    assert len(rows) == 3
    assert len((await document(client, device))["articles"]) == 30


async def read_until_broken(client: Client, device: Device) -> bytes:
    """Return what arrives of an export that breaks off."""
    headers = {"Authorization": f"Token {device.access}"}
    received = b""
    async with client.http.get(EXPORT, headers=headers) as response:
        assert response.status == 200
        try:
            async for chunk in response.content.iter_any():
                received += chunk
        except ClientPayloadError:
            return received
    raise AssertionError("the export was completed")


async def test_export_breaks_off_when_its_session_ends(
    client: Client, device: Device, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.execute(INSERT_ARTICLES, 300, 3)
    query = sql.export.list_articles
    sections: list[str] = []

    async def end_session(database: Any, **parameters: Any) -> Any:
        if not sections:
            sections.append("articles")
            assert (await client.post("/api/auth/logout", token=device.access)).status == 204
        return await query(database, **parameters)

    changed = [
        export.Section(each.name, end_session, each.keys, each.hidden)
        if each.name == "articles"
        else each
        for each in export.SECTIONS
    ]
    monkeypatch.setattr(export, "SECTIONS", tuple(changed))
    received = await read_until_broken(client, device)
    assert received.count(b'"slug"') <= 100
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(received)


async def test_export_breaks_off_when_the_database_is_lost(
    client: Client, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable

    first = export.SECTIONS[1]
    broken = export.Section(first.name, lost, first.keys)
    monkeypatch.setattr(export, "SECTIONS", (export.SECTIONS[0], broken))
    received = await read_until_broken(client, device)
    assert received.startswith(b'{"account":{')
    assert await client.is_authenticated(device.access)


async def test_exports_of_one_account_are_limited(client: Client, device: Device) -> None:
    results = await asyncio.gather(*(client.get(EXPORT, token=device.access) for _ in range(12)))
    assert sorted(result.status for result in results) == [200] * 10 + [429] * 2
