import unicodedata
from urllib.parse import quote

import asyncpg
import pytest

from tests.answers import assert_error, assert_invalid
from tests.conduit.writing import JSON, close_account, follow, profile, publish
from tests.conftest import Client, Dialect

NOT_FOUND = {"profile": ["not found"]}


async def test_a_profile_is_shown_to_nobody(dialect_client: Client, dialect: Dialect) -> None:
    await dialect_client.register("celeb")
    answer = await dialect_client.get("/api/profiles/celeb")
    assert (answer.status, answer.body) == (200, {"profile": profile("celeb", dialect.no_bio)})
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_a_profile_shows_bio_and_image(dialect_client: Client) -> None:
    token = await dialect_client.register("celeb")
    given = {"bio": "I work at statefarm", "image": "https://example.test/celeb.png"}
    await dialect_client.put("/api/user", {"user": given}, token=token)
    answer = await dialect_client.get("/api/profiles/celeb")
    assert answer.body == {
        "profile": profile("celeb", given["bio"], image="https://example.test/celeb.png")
    }


async def test_a_profile_with_an_emptied_image_shows_none(
    dialect_client: Client, dialect: Dialect
) -> None:
    token = await dialect_client.register("celeb")
    for image in ("https://example.test/celeb.png", ""):
        answer = await dialect_client.put(
            "/api/user", {"user": {"image": image, "bio": ""}}, token=token
        )
        assert answer.status == 200
    answer = await dialect_client.get("/api/profiles/celeb")
    assert answer.body == {"profile": profile("celeb", dialect.no_bio)}


async def test_following_answers_the_profile_followed(
    dialect_client: Client, dialect: Dialect
) -> None:
    await dialect_client.register("celeb")
    token = await dialect_client.register("alice")
    for _ in range(2):  # Twice is once.
        answer = await dialect_client.post("/api/profiles/celeb/follow", token=token)
        expected = {"profile": profile("celeb", dialect.no_bio, following=True)}
        assert (answer.status, answer.body) == (200, expected)
        assert (await dialect_client.get("/api/profiles/celeb", token=token)).body == expected


async def test_unfollowing_answers_the_profile_not_followed(
    dialect_client: Client, dialect: Dialect
) -> None:
    await dialect_client.register("celeb")
    token = await dialect_client.register("alice")
    await follow(dialect_client, token, "celeb")
    for _ in range(2):
        answer = await dialect_client.delete("/api/profiles/celeb/follow", token=token)
        expected = {"profile": profile("celeb", dialect.no_bio)}
        assert (answer.status, answer.body) == (200, expected)
        assert (await dialect_client.get("/api/profiles/celeb", token=token)).body == expected


async def test_following_twice_is_kept_once(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await follow(client, alice, "bob", "bob", "BOB")
    assert await db.fetchval("select count(*) from follows") == 1


async def test_following_belongs_to_the_one_who_asks(client: Client, alice: str, bob: str) -> None:
    await client.register("celeb")
    await follow(client, alice, "celeb")
    seen = {
        name: (await client.get("/api/profiles/celeb", token=token)).body["profile"]["following"]
        for name, token in {"alice": alice, "bob": bob, "nobody": None}.items()
    }
    assert seen == {"alice": True, "bob": False, "nobody": False}
    # And it points one way.
    back = await client.get("/api/profiles/alice", token=await client.register("celeb2"))
    assert back.body == {"profile": profile("alice")}


async def test_unfollowing_leaves_other_followers_alone(
    client: Client, alice: str, bob: str
) -> None:
    await client.register("celeb")
    await follow(client, alice, "celeb", "bob")
    await follow(client, bob, "celeb")
    await client.delete("/api/profiles/celeb/follow", token=alice)
    assert (await client.get("/api/profiles/celeb", token=bob)).body["profile"]["following"]
    assert (await client.get("/api/profiles/bob", token=alice)).body["profile"]["following"]


@pytest.mark.parametrize("name", ["alice", "ALICE", "%EF%BD%81lice"])
async def test_nobody_follows_themselves(
    dialect_client: Client, dialect: Dialect, db: asyncpg.Connection, name: str
) -> None:
    token = await dialect_client.register("alice")
    answer = await dialect_client.post(f"/api/profiles/{name}/follow", token=token)
    assert_invalid(answer, dialect.invalid, profile="can't be your own")
    assert await db.fetchval("select count(*) from follows") == 0
    shown = await dialect_client.get("/api/profiles/alice", token=token)
    assert shown.body == {"profile": profile("alice", dialect.no_bio)}


async def test_an_unknown_profile_is_not_found(client: Client, alice: str) -> None:
    for method, path in [
        ("GET", "/api/profiles/ghost"),
        ("POST", "/api/profiles/ghost/follow"),
        ("DELETE", "/api/profiles/ghost/follow"),
    ]:
        answer = await client.send(method, path, token=alice)
        assert_error(answer, 404, "not_found", NOT_FOUND)


@pytest.mark.parametrize("name", ["bob", "ghost"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_following_takes_a_user(client: Client, bob: str, method: str, name: str) -> None:
    answer = await client.send(method, f"/api/profiles/{name}/follow")
    assert_error(answer, 401, "token_missing", {"token": ["is missing"]})
    answer = await client.send(method, f"/api/profiles/{name}/follow", token="stale")
    assert_error(answer, 401, "token_invalid", {"token": ["is invalid"]})


async def test_a_token_that_counts_no_more_asks_as_nobody(
    client: Client, alice: str, bob: str
) -> None:
    article = await publish(client, alice)
    await follow(client, bob, "alice")
    await close_account(client, bob, "bob")
    for headers in [
        {"Authorization": f"Token {bob}"},
        {"Authorization": "Token stale"},
        {"Authorization": "Bearer x"},
        {"Authorization": ""},
    ]:
        for path in [
            "/api/profiles/alice",
            "/api/articles",
            "/api/tags",
            f"/api/articles/{article['slug']}",
            f"/api/articles/{article['slug']}/comments",
        ]:
            answer = await client.get(path, headers=headers)
            assert (answer.status, answer.body) == (200, (await client.get(path)).body)


NAME = "Zoë Ångström"


@pytest.mark.parametrize(
    "form",
    [NAME, unicodedata.normalize("NFD", NAME), NAME.upper(), NAME.lower()],
    ids=["composed", "decomposed", "upper", "lower"],
)
async def test_a_name_is_found_in_every_form(client: Client, alice: str, form: str) -> None:
    await client.register("zoe", username=NAME)
    path = f"/api/profiles/{quote(form)}"
    assert (await client.get(path)).body == {"profile": profile(NAME)}
    answer = await client.post(f"{path}/follow", token=alice)
    assert answer.body == {"profile": profile(NAME, following=True)}
    answer = await client.delete(f"{path}/follow", token=alice)
    assert answer.body == {"profile": profile(NAME)}


@pytest.mark.parametrize(
    "name", ["a/b", "50% off", "what?", "c#sharp", "new+york", "a&b=c", "龙龙龙"]
)
async def test_a_name_with_special_characters_is_found(client: Client, name: str) -> None:
    await client.register("x", username=name)
    answer = await client.get(f"/api/profiles/{quote(name, safe='')}")
    assert (answer.status, answer.body) == (200, {"profile": profile(name)})


async def test_a_renamed_user_is_found_by_the_new_name_only(client: Client, alice: str) -> None:
    await client.put("/api/user", {"user": {"username": "alicia"}}, token=alice)
    assert (await client.get("/api/profiles/alicia")).body == {"profile": profile("alicia")}
    assert_error(await client.get("/api/profiles/alice"), 404, "not_found", NOT_FOUND)


async def test_an_empty_body_called_json_is_no_obstacle(
    client: Client, alice: str, bob: str
) -> None:
    for method, path in [
        ("GET", "/api/profiles/bob"),
        ("POST", "/api/profiles/bob/follow"),
        ("DELETE", "/api/profiles/bob/follow"),
    ]:
        for options in ({}, {"data": b""}):
            answer = await client.send(method, path, token=alice, headers=JSON, **options)
            assert answer.status == 200


async def test_a_deleted_user_follows_nobody_and_is_followed_by_nobody(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await client.register("celeb")
    await follow(client, alice, "bob", "celeb")
    await follow(client, bob, "alice", "celeb")
    await close_account(client, alice, "alice")
    assert await db.fetchval("select count(*) from follows") == 1
    assert_error(await client.get("/api/profiles/alice", token=bob), 404, "not_found", NOT_FOUND)
