"""The user or the article of a request is deleted while the request runs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

import sql
from service.settings.rate_limit import NO_LIMIT
from tests.conduit.content import DRAGON, comment_on, favorite, publish, wait_until_removed
from tests.conduit.counts import find_wrong_counts
from tests.conftest import COUNT_BLOCKED, Client, Device, MakeClient, Response, until_blocked
from tests.responses import assert_error


async def send_while(
    client: Client, db: asyncpg.Connection, deletion: str, *request: Any, token: str
) -> Response:
    """Send ``request`` and commit ``deletion`` when the request waits for its locks."""
    async with db.transaction():
        await db.execute(deletion)
        running = asyncio.create_task(client.send(*request, token=token))
        while not running.done() and not await db.fetchval(COUNT_BLOCKED):
            await db.execute("select pg_stat_clear_snapshot()")
        assert not running.done(), "the request must wait for the deletion"
    return await running


COMMENT = {"comment": {"body": "x"}}
PATH = "/api/articles/dragons"

# An account that its owner deletes is closed, and its row is deleted later. An operator can delete
# the row at once.
DELETIONS_OF_BOB = {
    "closed": sql.NAMESPACES["closed_accounts"].close.text.replace(
        "$1", "(select id from users where username = 'bob')"
    ),
    "deleted": "delete from users where username = 'bob'",
}


@pytest.fixture(params=DELETIONS_OF_BOB)
def deletion_of_bob(request: pytest.FixtureRequest) -> str:
    """Return the statement that closes and the one that deletes Bob's account, in turn."""
    return DELETIONS_OF_BOB[str(request.param)]


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
async def test_article_is_not_found_when_it_is_deleted_during_the_request(
    client: Client, alice: str, db: asyncpg.Connection, method: str, path: str, body: Any
) -> None:
    await publish(client, alice, "Dragons")
    deletion = "delete from articles where slug = 'dragons'"
    response = await send_while(client, db, deletion, method, path, body, token=alice)
    assert_error(response, 404, "not_found", {"article": ["not found"]})
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
async def test_token_is_revoked_when_the_user_is_deleted_during_the_request(
    client: Client,
    alice: str,
    bob: str,
    db: asyncpg.Connection,
    deletion_of_bob: str,
    method: str,
    path: str,
    body: Any,
) -> None:
    await publish(client, alice, "Dragons")
    response = await send_while(client, db, deletion_of_bob, method, path, body, token=bob)
    assert_error(response, 401, "token_revoked", {"token": ["has been revoked"]})
    assert await find_wrong_counts(db) == []


async def test_profile_is_not_found_when_it_is_deleted_during_a_follow(
    client: Client, alice: str, bob: str, db: asyncpg.Connection, deletion_of_bob: str
) -> None:
    path = "/api/profiles/bob/follow"
    response = await send_while(client, db, deletion_of_bob, "POST", path, token=alice)
    assert_error(response, 404, "not_found", {"profile": ["not found"]})
    assert await db.fetchval("select count(*) from follows") == 0


async def test_comment_is_not_created_when_its_author_is_deleted_meanwhile(
    client: Client, alice: str, bob: str, db: asyncpg.Connection, deletion_of_bob: str
) -> None:
    await publish(client, alice, "Dragons")
    response = await send_while(
        client, db, deletion_of_bob, "POST", f"{PATH}/comments", COMMENT, token=bob
    )
    assert response.status == 404
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
async def test_account_stays_closed_when_a_request_changes_it_meanwhile(
    client: Client, bob: str, db: asyncpg.Connection, method: str, path: str, body: Any
) -> None:
    if method == "POST":
        body["user"]["password"] = "bob-secret"
    response = await send_while(
        client, db, DELETIONS_OF_BOB["closed"], method, path, body, token=bob
    )
    assert response.status == 401
    assert await db.fetchval("select count(*) from users where closed_at is null") == 0
    assert await db.fetchval("select count(*) from sessions") == 1


async def test_concurrent_requests_of_a_closed_account_leave_no_rows(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(login_limits=(NO_LIMIT, NO_LIMIT, NO_LIMIT))
    alice = await client.register("alice")
    await publish(client, alice, "Dragons")
    for number in range(6):
        name = f"closing{number}"
        token = await client.register(name)
        password = {"user": {"password": f"{name}-secret", "email": f"{name}@example.test"}}
        user_id = await db.fetchval("select id from users where username = $1", name)
        async with db.transaction():
            # All requests wait for the lock of the user's row. Then their order is unknown.
            await db.execute("select from users where id = $1 for update", user_id)
            requests: list[tuple[tuple[Any, ...], str | None]] = [
                (("POST", "/api/articles", {"article": DRAGON}), token),
                (("POST", f"{PATH}/favorite"), token),
                (("DELETE", "/api/user", password), token),
                (("POST", f"{PATH}/comments", COMMENT), token),
                (("POST", "/api/profiles/alice/follow"), token),
                (("POST", f"/api/profiles/{name}/follow"), alice),
                (("POST", "/api/users/login", password), None),
                (("POST", "/api/articles", {"article": DRAGON}), token),
            ]
            running = [
                asyncio.create_task(client.send(*request, token=sender))
                for request, sender in requests
            ]
            await until_blocked(db, len(running))
        responses = await asyncio.gather(*running)
        assert responses[2].status == 204
        assert {response.status for response in responses} <= {200, 201, 204, 401, 404}, responses
        for response in responses:
            if response.status == 200 and "refresh_token" in response.body:
                assert not await client.is_authenticated(Device.of(response).access)
    await wait_until_removed(client)
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
    """Return the ids of an article and of its author."""
    row = await db.fetchrow("select id, author_id from articles where slug = $1", slug)
    return row["id"], row["author_id"]


@pytest.fixture
async def two_connections(database_url: str) -> AsyncIterator[list[asyncpg.Connection]]:
    """Yield two connections that do not retry after a deadlock."""
    connections = [await asyncpg.connect(database_url) for _ in range(2)]
    yield connections
    for connection in connections:
        await connection.close()


async def test_deletion_and_creation_by_a_reader_do_not_deadlock(
    client: Client,
    alice: str,
    bob: str,
    db: asyncpg.Connection,
    two_connections: list[asyncpg.Connection],
) -> None:
    await publish(client, alice, "Dragons", tagList=["a"])
    await publish(client, bob, "Knights", tagList=["a"])
    await favorite(client, bob, "dragons")
    article_id, _ = await ids_of(db, "dragons")
    _, bob_id = await ids_of(db, "knights")
    article = {"title": "New", "description": "", "body": "", "tag_list": ["a"], "slug": "new"}
    async with db.transaction():
        # Bob's article comes first: it locks the tag and then Bob's counts.
        await db.execute("select from tag_counts where tag = 'a' for update")
        publishing = asyncio.create_task(
            sql.articles.create(two_connections[0], author_id=bob_id, **article)
        )
        await until_blocked(db, 1)
        deleting = asyncio.create_task(
            sql.articles.delete(two_connections[1], article_id=article_id)
        )
        await until_blocked(db, 2)
    created = await publishing
    assert created is not None
    assert created["slug"] == "new"
    assert await deleting
    assert await find_wrong_counts(db) == []


async def test_deletions_do_not_deadlock_when_the_authors_favorited_both(
    client: Client,
    alice: str,
    bob: str,
    db: asyncpg.Connection,
    two_connections: list[asyncpg.Connection],
) -> None:
    for token, title in ((alice, "Dragons"), (bob, "Knights")):
        await publish(
            client, token, title, tagList=[title]
        )  # They share no tag that both would wait for.
        await comment_on(client, token, title.lower())
    await favorite(client, alice, "knights")
    await favorite(client, bob, "dragons")
    ids = [(await ids_of(db, slug))[0] for slug in ("dragons", "knights")]
    async with db.transaction():
        # A deletion removes comments after favourites: both deletions stop there.
        await db.execute("select from comments for update")
        deleting = [
            asyncio.create_task(sql.articles.delete(connection, article_id=article_id))
            for connection, article_id in zip(two_connections, ids, strict=True)
        ]
        await until_blocked(db, 2)
    assert await asyncio.gather(*deleting) == [True, True]
    assert await find_wrong_counts(db) == []


async def test_article_is_deleted_in_batches_when_it_has_many_favorites(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "Dragons")
    await favorite(client, bob, "dragons")
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
