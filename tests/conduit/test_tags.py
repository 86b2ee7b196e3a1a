import asyncio

import asyncpg
import pytest
from aiohttp.test_utils import TestClient

from service.conduit import tags as tags_module
from tests.conduit.content import close_account, publish, wait_until_removed
from tests.conftest import Client, until_blocked


async def tags(client: Client) -> list[str]:
    response = await client.get("/api/tags")
    assert response.status == 200
    assert list(response.body) == ["tags"]
    listed: list[str] = response.body["tags"]
    return listed


async def test_tags_are_empty_without_articles(dialect_client: Client) -> None:
    response = await dialect_client.get("/api/tags")
    assert (response.status, response.body) == (200, {"tags": []})


async def test_tags_are_ordered_by_use_and_then_by_name(dialect_client: Client) -> None:
    token = await dialect_client.register("alice")
    for used in (["b", "a", "often"], ["often", "c", "sometimes"], ["often", "sometimes"]):
        await publish(dialect_client, token, tagList=used)
    response = await dialect_client.get("/api/tags")
    assert (response.status, response.body) == (
        200,
        {"tags": ["often", "sometimes", "a", "b", "c"]},
    )


async def test_tags_show_every_change(client: Client, alice: str) -> None:
    await publish(client, alice, "One", tagList=["a", "b"])
    await publish(client, alice, "Two", tagList=["b"])
    assert await tags(client) == ["b", "a"]
    await client.put("/api/articles/two", {"article": {"tagList": ["a", "c"]}}, token=alice)
    assert await tags(client) == ["a", "b", "c"]
    await client.put("/api/articles/one", {"article": {"tagList": []}}, token=alice)
    assert await tags(client) == ["a", "c"]
    await client.put("/api/articles/two", {"article": {"body": "new"}}, token=alice)
    assert await tags(client) == ["a", "c"]
    await client.delete("/api/articles/two", token=alice)
    assert await tags(client) == []


async def test_tags_are_removed_when_their_author_closes_the_account(
    client: Client, alice: str, bob: str
) -> None:
    await publish(client, alice, "One", tagList=["alice's", "shared"])
    await publish(client, bob, "Two", tagList=["bob's", "shared"])
    await close_account(client, alice, "alice")
    await wait_until_removed(client)
    assert await tags(client) == ["bob's", "shared"]


async def test_tags_are_the_100_most_used(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    # n articles have the tag n. Many counts are close, so an order by magnitude alone would fail.
    await db.execute(
        """
        insert into articles (author_id, slug, title, description, body, tag_list)
        select users.id, 's' || place, 't', 'd', 'b',
            array(select 'tag ' || n from generate_series(place, 130) as n)
        from users cross join generate_series(1, 130) as place
        """
    )
    assert await tags(client) == [f"tag {n}" for n in range(130, 30, -1)]


async def test_tags_of_an_article_keep_their_order_without_blanks_and_repeats(
    client: Client, alice: str
) -> None:
    given = ["z", " a ", "", "z", "  ", "a", "m", "\t", "Z"]
    article = await publish(client, alice, "One", tagList=given)
    assert article["tagList"] == ["z", "a", "m", "Z"]
    shown = await client.get("/api/articles/one")
    assert shown.body["article"]["tagList"] == ["z", "a", "m", "Z"]
    listed = await client.get("/api/articles?tag=a")
    assert listed.body["articles"][0]["tagList"] == ["z", "a", "m", "Z"]
    assert await tags(client) == ["Z", "a", "m", "z"]


async def test_tags_may_have_any_characters(client: Client, alice: str) -> None:
    odd = ["c++", "c#", "龙", "😀", "a&b=c", "50%", "two words", "'; --", "{x,y}", "null", '"']
    article = await publish(client, alice, "One", tagList=odd)
    assert article["tagList"] == odd
    assert set(await tags(client)) == set(odd)
    for tag in odd:
        response = await client.get("/api/articles", params={"tag": tag})
        assert response.body["articlesCount"] == 1


async def insert_article(db: asyncpg.Connection, slug: str, tag: str) -> None:
    """Insert an article of alice, as another process does."""
    await db.execute(
        """
        insert into articles (author_id, slug, title, description, body, tag_list)
        select id, $1, 't', 'd', 'b', array[$2] from users where username = 'alice'
        """,
        slug,
        tag,
    )


async def test_tags_come_from_memory_until_they_are_old(
    client: Client, alice: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags_module, "FRESH_SECONDS", 3600.0)
    assert await tags(client) == []
    await insert_article(db, "elsewhere", "new")
    assert await tags(client) == []
    monkeypatch.setattr(tags_module, "FRESH_SECONDS", 0.0)
    assert await tags(client) == ["new"]


@pytest.mark.parametrize("max_age", [3600.0, 0.0])
async def test_tags_are_the_old_ones_while_one_request_reads_them(
    client: Client,
    alice: str,
    db: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    max_age: float,
) -> None:
    monkeypatch.setattr(tags_module, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(tags_module, "MAX_AGE_SECONDS", max_age)
    assert await tags(client) == []
    await insert_article(db, "elsewhere", "new")
    async with asyncio.TaskGroup() as group, db.transaction():
        await db.execute("lock table tag_counts in access exclusive mode")
        reading = group.create_task(tags(client))
        await until_blocked(db, 1)
        other = group.create_task(tags(client))
        if max_age:
            assert await other == []
        assert not reading.done()
    assert reading.result() == ["new"]
    assert other.result() == ([] if max_age else ["new"])


async def test_tags_that_were_read_during_a_change_are_not_kept(
    client: Client, alice: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags_module, "FRESH_SECONDS", 3600.0)
    async with asyncio.TaskGroup() as group, db.transaction():
        await db.execute("lock table tag_counts in access exclusive mode")
        reading = group.create_task(tags(client))
        await until_blocked(db, 1)
        assert isinstance(client.http, TestClient) and client.http.app is not None
        client.http.app[tags_module.TAG_LIST].forget()
    assert reading.result() == []
    await insert_article(db, "elsewhere", "new")
    assert await tags(client) == ["new"]
