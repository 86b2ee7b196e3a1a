import asyncpg

from tests.conduit.content import close_account, publish, wait_until_removed
from tests.conftest import Client


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
