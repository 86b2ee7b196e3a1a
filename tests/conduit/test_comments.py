import asyncpg
import pytest

import sql
from service.http.responses import MAX_PAGE_BYTES
from tests.conduit.content import (
    JSON,
    LONGEST_IN_JSON,
    TIME,
    close_account,
    comment_on,
    expected_profile,
    follow,
    publish,
    read_all_pages,
    register_longest_author,
    wait_until_removed,
)
from tests.conftest import Client, Dialect, MakeClient
from tests.responses import assert_error

COMMENTS = "/api/articles/dragons/comments"
NO_COMMENT = {"comment": ["not found"]}


async def test_create_comment_responds_with_the_comment(
    dialect_client: Client, dialect: Dialect
) -> None:
    token = await dialect_client.register("alice")
    await publish(dialect_client, token, "Dragons")
    response = await dialect_client.post(COMMENTS, {"comment": {"body": "Thank you!"}}, token=token)
    comment = response.body["comment"]
    expected = {
        "id": comment["id"],
        "createdAt": comment["createdAt"],
        "updatedAt": comment["createdAt"],
        "body": "Thank you!",
        "author": expected_profile("alice", dialect.no_bio),
    }
    assert (response.status, response.body) == (201, {"comment": expected})
    assert isinstance(comment["id"], int)
    assert TIME.fullmatch(comment["createdAt"])


async def test_list_is_empty_when_the_article_has_no_comments(dialect_client: Client) -> None:
    token = await dialect_client.register("alice")
    await publish(dialect_client, token, "Dragons")
    response = await dialect_client.get(COMMENTS)
    assert (response.status, response.body) == (200, {"comments": []})


async def test_comments_are_listed_newest_first(dialect_client: Client) -> None:
    alice, bob = await dialect_client.register("alice"), await dialect_client.register("bob")
    await publish(dialect_client, alice, "Dragons")
    await publish(dialect_client, alice, "Others")
    said = [await comment_on(dialect_client, token, "dragons", body) for token, body in [
        (alice, "first"), (bob, "second\n<i>line</i> 😀"), (alice, "first")
    ]]  # fmt: skip
    await comment_on(dialect_client, alice, "others")
    response = await dialect_client.get(COMMENTS)
    assert (response.status, response.body) == (200, {"comments": said[::-1]})


async def test_comments_are_listed_by_id_when_their_times_are_equal(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await publish(client, alice, "Dragons")
    await db.execute(
        """
        insert into comments (article_id, author_id, body)
        select articles.id, articles.author_id, 'comment ' || n
        from articles cross join generate_series(1, 1001) as n
        """
    )
    shown = (await client.get(COMMENTS)).body["comments"]
    assert [comment["body"] for comment in shown] == [f"comment {n}" for n in range(1001, 1, -1)]
    pages = [
        (await client.get(f"{COMMENTS}?limit=300&offset={offset}")).body["comments"]
        for offset in range(0, 1200, 300)
    ]
    assert [comment["body"] for page in pages for comment in page] == [
        f"comment {n}" for n in range(1001, 0, -1)
    ]
    beyond = await client.get(f"{COMMENTS}?offset={2**63 - 1}")
    assert (beyond.status, beyond.body) == (200, {"comments": []})


async def fill(db: asyncpg.Connection, bodies: list[str]) -> None:
    """Insert comments on the only article, written by its author."""
    await db.execute(
        """
        insert into comments (article_id, author_id, body)
        select articles.id, articles.author_id, given.body
        from articles cross join unnest($1::text[]) with ordinality as given (body, position)
        order by position
        """,
        bodies,
    )


async def test_comments_are_paged_by_bytes_when_they_are_large(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(realworld_strict=True)
    await publish(client, await register_longest_author(client, "alice"), "Dragons")
    await fill(db, [LONGEST_IN_JSON * 10_000] * 100)
    pages = await read_all_pages(client, COMMENTS, "comments")
    assert [len(page.body["comments"]) for page in pages] == [27, 27, 27, 19, 0]
    ids = [comment["id"] for page in pages for comment in page.body["comments"]]
    newest_first = await db.fetch("select id from comments order by created_at desc, id desc")
    assert ids == [row["id"] for row in newest_first]
    assert len((await client.get(f"{COMMENTS}?offset=1&limit=20")).body["comments"]) == 20


@pytest.mark.parametrize("body", ["🐘" * 10_000, "x"], ids=["long bodies", "a long profile"])
async def test_database_reads_no_more_comments_than_fit_a_page(
    make_client: MakeClient, db: asyncpg.Connection, body: str
) -> None:
    client = await make_client(realworld_strict=True)
    token = await client.register("alice")
    changes = {"bio": "🐘" * 500, "image": "🐘" * 2048}
    assert (await client.put("/api/user", {"user": changes}, token=token)).status == 200
    await publish(client, token, "Dragons")
    await fill(db, [body] * 300)
    rows = await sql.comments.list(
        db, slug="dragons", viewer_id=None, limit=1000, offset=0, max_bytes=MAX_PAGE_BYTES
    )
    columns = ("body", "author_bio", "author_image")
    sizes = [sum(len(row[column].encode()) for column in columns) for row in rows]
    assert MAX_PAGE_BYTES <= sum(sizes) < MAX_PAGE_BYTES + sizes[0]


async def test_following_in_comments_belongs_to_the_current_user(
    client: Client, alice: str, bob: str
) -> None:
    await publish(client, alice, "Dragons")
    await comment_on(client, alice, "dragons")
    await comment_on(client, bob, "dragons")
    await follow(client, bob, "alice")
    seen = {
        name: [
            comment["author"]["following"]
            for comment in (await client.get(COMMENTS, token=token)).body["comments"]
        ]
        for name, token in {"alice": alice, "bob": bob, "anonymous": None, "stale": "stale"}.items()
    }
    assert seen == {
        "alice": [False, False],
        "bob": [False, True],
        "anonymous": [False, False],
        "stale": [False, False],
    }


async def test_delete_comment_removes_only_that_comment(dialect_client: Client) -> None:
    token = await dialect_client.register("alice")
    await publish(dialect_client, token, "Dragons")
    first, second = [await comment_on(dialect_client, token, "dragons") for _ in range(2)]
    path = f"{COMMENTS}/{first['id']}"
    response = await dialect_client.delete(path, token=token, headers=JSON, data=b"")
    assert (response.status, response.body) == (204, None)
    assert (await dialect_client.get(COMMENTS)).body == {"comments": [second]}
    assert_error(await dialect_client.delete(path, token=token), 404, "not_found", NO_COMMENT)


@pytest.mark.parametrize("stranger", ["bob", "the article's author"])
async def test_comment_of_another_user_cannot_be_deleted(
    client: Client, alice: str, bob: str, stranger: str
) -> None:
    commenter, other = (alice, bob) if stranger == "bob" else (bob, alice)
    await publish(client, alice, "Dragons")
    comment = await comment_on(client, commenter, "dragons")
    response = await client.delete(f"{COMMENTS}/{comment['id']}", token=other)
    assert_error(response, 403, "forbidden", {"comment": ["forbidden"]})
    assert (await client.get(COMMENTS)).body == {"comments": [comment]}


async def test_comment_is_not_found_under_another_article(client: Client, alice: str) -> None:
    await publish(client, alice, "Dragons")
    await publish(client, alice, "Others")
    comment = await comment_on(client, alice, "dragons")
    path = f"/api/articles/others/comments/{comment['id']}"
    assert_error(await client.delete(path, token=alice), 404, "not_found", NO_COMMENT)
    assert (await client.get(COMMENTS)).body == {"comments": [comment]}


@pytest.mark.parametrize(
    "number",
    [
        *("0", "-1", "1.5", "abc", "1e3", "%20", "%00", "%FF", "٣", "²", "1%3Bdrop", "null"),
        *(str(2**63 - 1), str(2**63), "9" * 19, "9" * 5000),
    ],
    ids=lambda number: number[:20],
)
async def test_invalid_comment_id_is_not_found(client: Client, alice: str, number: str) -> None:
    await publish(client, alice, "Dragons")
    comment = await comment_on(client, alice, "dragons")
    response = await client.delete(f"{COMMENTS}/{number}", token=alice)
    assert_error(response, 404, "not_found", NO_COMMENT)
    assert (await client.get(COMMENTS)).body == {"comments": [comment]}


async def test_comments_are_removed_when_their_author_closes_the_account(
    client: Client, alice: str, bob: str
) -> None:
    await publish(client, alice, "Dragons")
    kept = await comment_on(client, alice, "dragons")
    await comment_on(client, bob, "dragons")
    await close_account(client, bob, "bob")
    await wait_until_removed(client)
    assert (await client.get(COMMENTS)).body == {"comments": [kept]}
