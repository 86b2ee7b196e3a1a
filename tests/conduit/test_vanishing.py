"""What a request is about goes while it runs: that is no fault of anybody's."""

import asyncio
from typing import Any

import asyncpg
import pytest

import sql
from tests.answers import assert_error
from tests.conduit.writing import DRAGON, publish
from tests.conftest import Answer, Client

WAITING = """
    select count(*) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'
"""


async def send_while(
    client: Client, db: asyncpg.Connection, deletion: str, *request: Any, token: str
) -> Answer:
    """Send ``request``, and commit ``deletion`` as soon as the request has to wait for it."""
    async with db.transaction():
        await db.execute(deletion)
        running = asyncio.create_task(client.send(*request, token=token))
        while not running.done() and not await db.fetchval(WAITING):
            await db.execute("select pg_stat_clear_snapshot()")
        assert not running.done(), "the request is to meet the deletion"
    return await running


COMMENT = {"comment": {"body": "x"}}
PATH = "/api/articles/dragons"


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
    assert await sql.counts.find_wrong(db) == []


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
    method: str,
    path: str,
    body: Any,
) -> None:
    await publish(client, alice, "Dragons")
    deletion = "delete from users where username = 'bob'"
    answer = await send_while(client, db, deletion, method, path, body, token=bob)
    assert_error(answer, 401, "token_revoked", {"token": ["has been revoked"]})
    assert await sql.counts.find_wrong(db) == []


async def test_a_user_who_goes_while_being_followed_is_not_found(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    deletion = "delete from users where username = 'bob'"
    path = "/api/profiles/bob/follow"
    answer = await send_while(client, db, deletion, "POST", path, token=alice)
    assert_error(answer, 404, "not_found", {"profile": ["not found"]})


async def test_a_user_who_goes_while_commenting_leaves_no_comment(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "Dragons")
    deletion = "delete from users where username = 'bob'"
    answer = await send_while(client, db, deletion, "POST", f"{PATH}/comments", COMMENT, token=bob)
    assert answer.status == 404
    assert (await client.get(f"{PATH}/comments")).body == {"comments": []}
