"""Closing an account and removing it in batches.

tests/conduit/test_foreign_keys.py tests the concurrent requests.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

import sql
from service.accounts import closed_accounts
from service.accounts.closed_accounts import CLOSED_ACCOUNTS, LOCK, STEPS, ClosedAccounts
from tests.accounts.large_account import MANY, fill
from tests.conduit.content import (
    close_account,
    comment_on,
    expected_profile,
    favorite,
    follow,
    publish,
    slugs_of,
    wait_until_removed,
)
from tests.conduit.counts import find_wrong_counts
from tests.conftest import Client, Dialect, MakeClient
from tests.responses import assert_error


def removal_of(client: Client) -> ClosedAccounts:
    app: Any = client.http.app
    removal: ClosedAccounts = app[CLOSED_ACCOUNTS]
    return removal


@pytest.fixture
async def paused(db: asyncpg.Connection) -> AsyncIterator[None]:
    """Hold the lock of the removal during the test, or until ``resume``."""
    await db.execute("select pg_advisory_lock($1)", LOCK)
    yield
    await db.execute("select pg_advisory_unlock_all()")


async def resume(client: Client, db: asyncpg.Connection) -> None:
    """Release the lock of ``paused``, and wait until every closed account is removed."""
    await db.execute("select pg_advisory_unlock_all()")
    await wait_until_removed(client)


@pytest.mark.usefixtures("paused")
async def test_content_is_shown_without_its_author_until_it_is_removed(
    dialect_client: Client, dialect: Dialect, db: asyncpg.Connection
) -> None:
    alice, bob = await dialect_client.register("alice"), await dialect_client.register("bob")
    shown = {"bio": "I am Alice", "image": "https://example.test/alice.png"}
    await dialect_client.put("/api/user", {"user": shown}, token=alice)
    await publish(dialect_client, alice, "Dragons")
    await publish(dialect_client, bob, "Knights")
    await comment_on(dialect_client, alice, "knights")
    await favorite(dialect_client, alice, "knights")
    await follow(dialect_client, bob, "alice")

    await close_account(dialect_client, alice, "alice")

    no_author = expected_profile("-", dialect.no_bio)
    article = (await dialect_client.get("/api/articles/dragons", token=bob)).body["article"]
    assert article["author"] == no_author
    listed = (await dialect_client.get("/api/articles", token=bob)).body
    assert listed["articlesCount"] == 2
    authors = {entry["slug"]: entry["author"] for entry in listed["articles"]}
    assert authors == {"dragons": no_author, "knights": expected_profile("bob", dialect.no_bio)}
    comments = (await dialect_client.get("/api/articles/knights/comments", token=bob)).body[
        "comments"
    ]
    assert [comment["author"] for comment in comments] == [no_author]
    favorited = (await dialect_client.get("/api/articles/knights")).body["article"]
    assert favorited["favoritesCount"] == 1
    for name in ("alice", "-"):
        response = await dialect_client.get(f"/api/profiles/{name}", token=bob)
        assert_error(response, 404, "not_found", {"profile": ["not found"]})
        for filtered in (f"author={name}", f"favorited={name}", f"author=bob&favorited={name}"):
            response = await dialect_client.get(f"/api/articles?{filtered}")
            assert response.body == {"articles": [], "articlesCount": 0}
    stored = await db.fetchval("select users::text from users where closed_at is not null")
    assert "lice" not in stored
    assert await find_wrong_counts(db) == []

    await resume(dialect_client, db)

    assert slugs_of(await dialect_client.get("/api/articles")) == ["knights"]
    assert (await dialect_client.get("/api/articles/knights/comments")).body == {"comments": []}
    favorited = (await dialect_client.get("/api/articles/knights")).body["article"]
    assert favorited["favoritesCount"] == 0
    assert await db.fetchval("select count(*) from users") == 1
    assert await find_wrong_counts(db) == []


async def test_username_shown_for_closed_accounts_cannot_be_registered(
    dialect_client: Client, dialect: Dialect
) -> None:
    user = {"username": "-", "email": "x@example.test", "password": "password"}
    response = await dialect_client.post("/api/users", {"user": user})
    assert (response.status, list(response.body["errors"])) == (dialect.invalid, ["username"])


@pytest.mark.usefixtures("paused")
async def test_next_owner_of_a_username_has_none_of_the_content(
    client: Client, alice: str, bob: str
) -> None:
    await publish(client, alice, "Old")
    await publish(client, bob, "Liked")
    await favorite(client, alice, "liked")
    await follow(client, bob, "alice")
    await close_account(client, alice, "alice")
    again = await client.register("alice")
    await publish(client, again, "New")
    assert slugs_of(await client.get("/api/articles?author=alice")) == ["new"]
    assert slugs_of(await client.get("/api/articles?favorited=alice")) == []
    response = await client.get("/api/profiles/alice", token=bob)
    assert response.body == {"profile": expected_profile("alice")}
    assert slugs_of(await client.get("/api/articles/feed", token=bob)) == []


async def test_closed_account_is_removed_in_the_background(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "Dragons")
    await comment_on(client, bob, "dragons")
    await favorite(client, bob, "dragons")
    await close_account(client, alice, "alice")
    async with asyncio.timeout(20):
        while await db.fetchval("select count(*) from users") > 1:
            pass
    assert await db.fetchval("select count(*) from articles") == 0
    assert await db.fetchval("select count(*) from users") == 1
    assert await db.fetchval("select count(*) from known_ips") == 1
    assert await find_wrong_counts(db) == []


@pytest.mark.usefixtures("paused")
async def test_removal_keeps_every_count_exact_between_batches(
    client: Client, alice: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(db)
    await close_account(client, alice, "alice")
    user_id = await db.fetchval("select id from users where closed_at is not null")
    batches = 0
    for query, limit in STEPS:
        while await query(db, user_id=user_id, limit=limit):
            batches += 1
            assert await find_wrong_counts(db) == []
            total = (await client.get("/api/articles?limit=1")).body["articlesCount"]
            assert len(slugs_of(await client.get(f"/api/articles?offset={total - 1}"))) == 1
            assert slugs_of(await client.get(f"/api/articles?offset={total}")) == []
    assert batches > 20
    assert await sql.closed_accounts.delete_user(db, user_id=user_id)
    assert await db.fetchval("select count(*) from articles") == MANY
    assert await db.fetchval("select count(*) from comments") == 0
    assert await db.fetchval("select count(*) from favorites") == MANY
    assert await db.fetchval("select count(*) from follows") == 0
    assert await db.fetchval("select count(*) from sessions") == 0
    assert await find_wrong_counts(db) == []


@pytest.mark.parametrize(("query", "limit"), STEPS, ids=lambda value: getattr(value, "name", ""))
async def test_batch_deletes_at_most_its_limit_of_rows(
    client: Client, alice: str, db: asyncpg.Connection, query: sql.Query, limit: int
) -> None:
    await fill(db)
    user_id = await db.fetchval("select id from users where username = 'alice'")
    rows = "select sum(n_tup_del) from pg_stat_xact_user_tables"
    async with db.transaction():
        before = await db.fetchval(rows)
        await query(db, user_id=user_id, limit=limit)
        # The count includes the comments, favorites, counters, tags and slugs of an article.
        assert await db.fetchval(rows) - before <= 3 * 1000 + 6 * limit


async def test_batches_of_comments_and_articles_are_limited_in_bytes(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await publish(client, bob, "Dragons")
    large = "(select string_agg(md5(n::text), '') from generate_series(1, 30000) as n)"
    await db.execute(
        "insert into comments (article_id, author_id, body)"  # noqa: S608
        f" select articles.id, users.id, {large}"
        " from articles, users, generate_series(1, 20) where username = 'alice'"
    )
    await db.execute(
        "insert into articles (author_id, slug, title, description, body)"  # noqa: S608
        f" select id, 'large-' || n, '', '', {large} from users, generate_series(1, 20) as n"
        " where username = 'alice'"
    )
    user_id = await db.fetchval("select id from users where username = 'alice'")
    for query in (sql.closed_accounts.delete_comments, sql.closed_accounts.delete_articles):
        assert 1 <= await query(db, user_id=user_id, limit=1000) < 10
    # The comments of other users on an article are deleted in batches of the same size.
    article_id = await db.fetchval("select id from articles where slug = 'dragons'")
    assert not await sql.articles.delete(db, article_id=article_id)
    while not await sql.articles.delete(db, article_id=article_id):
        pass
    assert await db.fetchval("select count(*) from comments") == 0


@pytest.mark.usefixtures("paused")
async def test_every_token_of_a_closed_account_is_rejected_while_sessions_remain(
    client: Client, db: asyncpg.Connection
) -> None:
    devices = [await client.open_account("alice")]
    await fill(db)
    devices.append(await client.sign_in("alice"))
    await close_account(client, devices[0].access, "alice")
    assert await db.fetchval("select count(*) from sessions") > MANY - 1000
    # A session that a batch has not deleted yet is handled like a deleted one.
    session_id = await db.fetchval("select id from sessions")
    user_id = await db.fetchval("select user_id from sessions")
    assert await sql.sessions.find_with_user(db, id=session_id, user_id=user_id) is None
    assert await sql.sessions.find_state(db, id=session_id) is None
    assert await sql.users.find_credentials(db, id=user_id) is None
    for device in devices:
        assert not await client.is_authenticated(device.access)
        assert (await client.refresh(device.refresh)).body["code"] == "refresh_token_invalid"
    user = {"email": "alice@example.test", "password": "alice-secret"}
    assert (await client.post("/api/users/login", {"user": user})).status == 401


@pytest.mark.usefixtures("paused")
async def test_removal_continues_in_another_process_after_an_interruption(
    make_client: MakeClient, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await make_client()
    alice = await here.register("alice")
    await fill(db)
    await close_account(here, alice, "alice")
    await here.http.close()
    user_id = await db.fetchval("select id from users where closed_at is not null")
    await sql.closed_accounts.delete_articles(db, user_id=user_id, limit=100)
    await resume(await make_client(), db)
    assert await db.fetchval("select count(*) from users") == MANY
    assert await db.fetchval("select count(*) from articles") == MANY
    assert await find_wrong_counts(db) == []


@pytest.mark.usefixtures("paused")
async def test_removal_stops_while_another_process_holds_the_lock(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "Dragons")
    await close_account(client, alice, "alice")
    assert await removal_of(client).remove_all() is False
    assert slugs_of(await client.get("/api/articles")) == ["dragons"]
    await resume(client, db)
    assert await removal_of(client).remove_all() is True
    assert slugs_of(await client.get("/api/articles")) == []


async def test_removal_logs_a_failed_account_and_removes_the_others(
    make_client: MakeClient, db: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    client = await make_client()
    for name in ("alice", "bob", "celeb"):
        token = await client.register(name)
        await publish(client, token, name)
        if name == "bob":
            kept = await db.fetchval("select id from users where username = 'bob'")
            await db.execute(
                "create function refuse() returns trigger language plpgsql as"
                " $$ begin raise 'refused'; end $$;"
                " create trigger refuse before delete on articles for each row"
                " when (old.slug = 'bob') execute function refuse()"
            )
        await close_account(client, token, name)
    try:
        async with asyncio.timeout(20):
            while await db.fetchval("select count(*) from users") > 1:
                pass
        assert await removal_of(client).remove_all() is False
    finally:
        await db.execute("drop trigger refuse on articles; drop function refuse")
    assert await db.fetchval("select id from users") == kept
    logged = {record.getMessage() for record in caplog.records if record.levelno == logging.ERROR}
    assert logged == {f"closed account not removed: user_id={kept}"}
    await resume(client, db)
    assert await db.fetchval("select count(*) from users") == 0


@pytest.mark.usefixtures("paused")
async def test_removal_of_a_small_account_does_not_wait_for_a_large_one(
    client: Client, alice: str, bob: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[UUID] = []
    remove_some = ClosedAccounts._remove_some

    async def record_turn(removal: ClosedAccounts, user_id: UUID) -> bool:
        turns.append(user_id)
        return await remove_some(removal, user_id)

    monkeypatch.setattr(closed_accounts, "ROUNDS", 1)
    monkeypatch.setattr(ClosedAccounts, "_remove_some", record_turn)
    await fill(db)
    small = await db.fetchval("select id from users where username = 'bob'")
    large = await db.fetchval("select id from users where username = 'alice'")
    await close_account(client, alice, "alice")
    await close_account(client, bob, "bob")
    await resume(client, db)
    last_turn_of_the_small = len(turns) - turns[::-1].index(small)
    assert turns[last_turn_of_the_small:].count(large) > 1
