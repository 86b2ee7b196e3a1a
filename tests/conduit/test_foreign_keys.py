"""What a request is about goes while it runs: that is no fault of anybody's."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

import sql
from service.settings.rate_limit import NO_LIMIT
from tests.answers import assert_error
from tests.conduit.counts import find_wrong_counts
from tests.conduit.writing import DRAGON, like, publish, say, until_removed
from tests.conftest import COUNT_BLOCKED, Answer, Client, Device, MakeClient, until_blocked


async def send_while(
    client: Client, db: asyncpg.Connection, deletion: str, *request: Any, token: str
) -> Answer:
    """Send ``request``, and commit ``deletion`` as soon as the request has to wait for it."""
    async with db.transaction():
        await db.execute(deletion)
        running = asyncio.create_task(client.send(*request, token=token))
        while not running.done() and not await db.fetchval(COUNT_BLOCKED):
            await db.execute("select pg_stat_clear_snapshot()")
        assert not running.done(), "the request is to meet the deletion"
    return await running


COMMENT = {"comment": {"body": "x"}}
PATH = "/api/articles/dragons"

# An account that its owner deletes is closed; the row goes later, or by an operator's hand.
BOB_GOES = {
    "closed": sql.closed_accounts.close.text.replace(
        "$1", "(select id from users where username = 'bob')"
    ),
    "deleted": "delete from users where username = 'bob'",
}


@pytest.fixture(params=BOB_GOES)
def bob_goes(request: pytest.FixtureRequest) -> str:
    """Each way in which Bob's account goes."""
    return BOB_GOES[request.param]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"{PATH}/favorite", None),
        ("POST", f"{PATH}/comments", COMMENT),
        ("PUT", PATH, {"article": {"title": "Other", "tagList": []}}),
        ("PUT", PATH, {"article": {"body": "new"}}),
    ],
    ids=["favorite", "comment", "title", "body"],
)
async def test_an_article_that_goes_meanwhile_is_not_found(
    client: Client, alice: str, db: asyncpg.Connection, method: str, path: str, body: Any
) -> None:
    await publish(client, alice, "Dragons")
    deletion = "delete from articles where slug = 'dragons'"
    answer = await send_while(client, db, deletion, method, path, body, token=alice)
    assert_error(answer, 404, "not_found", {"article": ["not found"]})
    assert await find_wrong_counts(db) == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/articles", {"article": DRAGON}),
        ("POST", f"{PATH}/favorite", None),
        ("POST", "/api/profiles/alice/follow", None),
    ],
    ids=["publish", "favorite", "follow"],
)
async def test_a_user_who_goes_meanwhile_is_refused_as_gone(
    client: Client,
    alice: str,
    bob: str,
    db: asyncpg.Connection,
    bob_goes: str,
    method: str,
    path: str,
    body: Any,
) -> None:
    await publish(client, alice, "Dragons")
    answer = await send_while(client, db, bob_goes, method, path, body, token=bob)
    assert_error(answer, 401, "token_revoked", {"token": ["has been revoked"]})
    assert await find_wrong_counts(db) == []


async def test_a_user_who_goes_while_being_followed_is_not_found(
    client: Client, alice: str, bob: str, db: asyncpg.Connection, bob_goes: str
) -> None:
    path = "/api/profiles/bob/follow"
    answer = await send_while(client, db, bob_goes, "POST", path, token=alice)
    assert_error(answer, 404, "not_found", {"profile": ["not found"]})
    assert await db.fetchval("select count(*) from follows") == 0


async def test_a_user_who_goes_while_commenting_leaves_no_comment(
    client: Client, alice: str, bob: str, db: asyncpg.Connection, bob_goes: str
) -> None:
    await publish(client, alice, "Dragons")
    answer = await send_while(client, db, bob_goes, "POST", f"{PATH}/comments", COMMENT, token=bob)
    assert answer.status == 404
    assert (await client.get(f"{PATH}/comments")).body == {"comments": []}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/api/user", {"user": {"bio": "here"}}),
        ("PUT", "/api/user", {"user": {"username": "robert"}}),
        ("DELETE", "/api/user/sessions", None),
        ("DELETE", "/api/user", {"user": {"password": "bob-secret"}}),
        ("POST", "/api/users/login", {"user": {"email": "bob@example.test"}}),
    ],
    ids=["bio", "username", "end others", "delete", "login"],
)
async def test_an_account_that_closes_meanwhile_stays_closed(
    client: Client, bob: str, db: asyncpg.Connection, method: str, path: str, body: Any
) -> None:
    if method == "POST":
        body["user"]["password"] = "bob-secret"
    answer = await send_while(client, db, BOB_GOES["closed"], method, path, body, token=bob)
    assert answer.status == 401
    assert await db.fetchval("select count(*) from users where closed_at is null") == 0
    assert await db.fetchval("select count(*) from sessions") == 1


async def test_requests_of_an_account_that_closes_leave_nothing_behind(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(login_limits=(NO_LIMIT, NO_LIMIT, NO_LIMIT))
    alice = await client.register("alice")
    await publish(client, alice, "Dragons")
    for number in range(6):
        name = f"leaver{number}"
        token = await client.register(name)
        password = {"user": {"password": f"{name}-secret", "email": f"{name}@example.test"}}
        user_id = await db.fetchval("select id from users where username = $1", name)
        async with db.transaction():
            # All meet at the user's row, and go on in no order that this test knows.
            await db.execute("select from users where id = $1 for update", user_id)
            running = [
                asyncio.create_task(client.send(*request, token=asking))
                for request, asking in [
                    (("POST", "/api/articles", {"article": DRAGON}), token),
                    (("POST", f"{PATH}/favorite"), token),
                    (("DELETE", "/api/user", password), token),
                    (("POST", f"{PATH}/comments", COMMENT), token),
                    (("POST", "/api/profiles/alice/follow"), token),
                    (("POST", f"/api/profiles/{name}/follow"), alice),
                    (("POST", "/api/users/login", password), None),
                    (("POST", "/api/articles", {"article": DRAGON}), token),
                ]
            ]
            await until_blocked(db, len(running))
        answers = await asyncio.gather(*running)
        assert answers[2].status == 204
        assert {answer.status for answer in answers} <= {200, 201, 204, 401, 404}, answers
        for answer in answers:
            if answer.status == 200 and "refresh_token" in answer.body:
                assert not await client.is_authenticated(Device.of(answer).access)
    await until_removed(client)
    for table, left in {
        "users": 1,
        "articles": 1,
        "comments": 0,
        "favorites": 0,
        "follows": 0,
        "sessions": 1,
    }.items():
        assert await db.fetchval(f"select count(*) from {table}") == left, table  # noqa: S608
    assert await find_wrong_counts(db) == []


async def ids_of(db: asyncpg.Connection, slug: str) -> tuple[int, Any]:
    """The ids of an article and of its author."""
    row = await db.fetchrow("select id, author_id from articles where slug = $1", slug)
    return row["id"], row["author_id"]


@pytest.fixture
async def two_others(database_url: str) -> AsyncIterator[list[asyncpg.Connection]]:
    """Two connections that repeat nothing after a deadlock."""
    connections = [await asyncpg.connect(database_url) for _ in range(2)]
    yield connections
    for connection in connections:
        await connection.close()


async def test_a_deletion_and_a_publication_by_a_reader_do_not_deadlock(
    client: Client,
    alice: str,
    bob: str,
    db: asyncpg.Connection,
    two_others: list[asyncpg.Connection],
) -> None:
    await publish(client, alice, "Dragons", tagList=["a"])
    await publish(client, bob, "Knights", tagList=["a"])
    await like(client, bob, "dragons")
    article_id, _ = await ids_of(db, "dragons")
    _, bob_id = await ids_of(db, "knights")
    article = {"title": "New", "description": "", "body": "", "tag_list": ["a"], "slug": "new"}
    async with db.transaction():
        # Bob comes first: he gets the tag and goes on to his own counts.
        await db.execute("select from tag_counts where tag = 'a' for update")
        publishing = asyncio.create_task(
            sql.articles.create(two_others[0], author_id=bob_id, **article)
        )
        await until_blocked(db, 1)
        deleting = asyncio.create_task(sql.articles.delete(two_others[1], article_id=article_id))
        await until_blocked(db, 2)
    assert (await publishing)["slug"] == "new"
    assert await deleting
    assert await find_wrong_counts(db) == []


async def test_deletions_of_articles_that_their_authors_like_do_not_deadlock(
    client: Client,
    alice: str,
    bob: str,
    db: asyncpg.Connection,
    two_others: list[asyncpg.Connection],
) -> None:
    for token, title in ((alice, "Dragons"), (bob, "Knights")):
        await publish(client, token, title, tagList=[title])  # No tag that both would wait for.
        await say(client, token, title.lower())
    await like(client, alice, "knights")
    await like(client, bob, "dragons")
    ids = [(await ids_of(db, slug))[0] for slug in ("dragons", "knights")]
    async with db.transaction():
        # Comments go after favourites: both deletions stop when they have come to these.
        await db.execute("select from comments for update")
        deleting = [
            asyncio.create_task(sql.articles.delete(connection, article_id=article_id))
            for connection, article_id in zip(two_others, ids, strict=True)
        ]
        await until_blocked(db, 2)
    assert await asyncio.gather(*deleting) == [True, True]
    assert await find_wrong_counts(db) == []


async def test_an_article_with_very_many_favourites_is_deleted_in_batches(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "Dragons")
    await like(client, bob, "dragons")
    await db.execute(
        "insert into users (username, username_key, email, email_key, password_hash)"
        " select n, n, n, n, '' from (select 'reader' || generate_series(1, 2500) as n) as named"
    )
    await db.execute(
        "insert into favorites (user_id, article_id)"
        " select users.id, articles.id from users, articles where username like 'reader%'"
    )
    article_id = await db.fetchval("select id from articles")
    steps = 1
    while not await sql.articles.delete(db, article_id=article_id):
        steps += 1
        assert await find_wrong_counts(db) == []
    assert steps == 3
    assert await find_wrong_counts(db) == []
    assert (await client.get("/api/articles")).body == {"articles": [], "articlesCount": 0}
