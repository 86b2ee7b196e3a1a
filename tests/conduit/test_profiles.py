import unicodedata
from urllib.parse import quote

import asyncpg
import pytest

from tests.conduit.content import JSON, close_account, expected_profile, follow, publish
from tests.conftest import Client, Dialect
from tests.responses import assert_error, assert_invalid

NOT_FOUND = {"profile": ["not found"]}


async def test_profile_is_public(dialect_client: Client, dialect: Dialect) -> None:
    await dialect_client.register("celeb")
    response = await dialect_client.get("/api/profiles/celeb")
    assert (response.status, response.body) == (
        200,
        {"profile": expected_profile("celeb", dialect.no_bio)},
    )
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_profile_has_bio_and_image(dialect_client: Client) -> None:
    token = await dialect_client.register("celeb")
    given = {"bio": "I work at statefarm", "image": "https://example.test/celeb.png"}
    await dialect_client.put("/api/user", {"user": given}, token=token)
    response = await dialect_client.get("/api/profiles/celeb")
    assert response.body == {
        "profile": expected_profile("celeb", given["bio"], image="https://example.test/celeb.png")
    }


async def test_profile_has_no_image_when_it_was_emptied(
    dialect_client: Client, dialect: Dialect
) -> None:
    token = await dialect_client.register("celeb")
    for image in ("https://example.test/celeb.png", ""):
        response = await dialect_client.put(
            "/api/user", {"user": {"image": image, "bio": ""}}, token=token
        )
        assert response.status == 200
    response = await dialect_client.get("/api/profiles/celeb")
    assert response.body == {"profile": expected_profile("celeb", dialect.no_bio)}


async def test_follow_responds_with_the_followed_profile(
    dialect_client: Client, dialect: Dialect
) -> None:
    await dialect_client.register("celeb")
    token = await dialect_client.register("alice")
    for _ in range(2):  # A repeated request has no effect.
        response = await dialect_client.post("/api/profiles/celeb/follow", token=token)
        expected = {"profile": expected_profile("celeb", dialect.no_bio, following=True)}
        assert (response.status, response.body) == (200, expected)
        assert (await dialect_client.get("/api/profiles/celeb", token=token)).body == expected


async def test_unfollow_responds_with_the_profile(dialect_client: Client, dialect: Dialect) -> None:
    await dialect_client.register("celeb")
    token = await dialect_client.register("alice")
    await follow(dialect_client, token, "celeb")
    for _ in range(2):
        response = await dialect_client.delete("/api/profiles/celeb/follow", token=token)
        expected = {"profile": expected_profile("celeb", dialect.no_bio)}
        assert (response.status, response.body) == (200, expected)
        assert (await dialect_client.get("/api/profiles/celeb", token=token)).body == expected


async def test_follow_is_stored_once_when_it_is_repeated(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await follow(client, alice, "bob", "bob", "BOB")
    assert await db.fetchval("select count(*) from follows") == 1


async def test_following_belongs_to_the_current_user(client: Client, alice: str, bob: str) -> None:
    await client.register("celeb")
    await follow(client, alice, "celeb")
    seen = {
        name: (await client.get("/api/profiles/celeb", token=token)).body["profile"]["following"]
        for name, token in {"alice": alice, "bob": bob, "anonymous": None}.items()
    }
    assert seen == {"alice": True, "bob": False, "anonymous": False}
    # The follow has one direction.
    back = await client.get("/api/profiles/alice", token=await client.register("celeb2"))
    assert back.body == {"profile": expected_profile("alice")}


async def test_unfollow_keeps_other_follows(client: Client, alice: str, bob: str) -> None:
    await client.register("celeb")
    await follow(client, alice, "celeb", "bob")
    await follow(client, bob, "celeb")
    await client.delete("/api/profiles/celeb/follow", token=alice)
    assert (await client.get("/api/profiles/celeb", token=bob)).body["profile"]["following"]
    assert (await client.get("/api/profiles/bob", token=alice)).body["profile"]["following"]


@pytest.mark.parametrize("name", ["alice", "ALICE", "%EF%BD%81lice"])
async def test_users_cannot_follow_themselves(
    dialect_client: Client, dialect: Dialect, db: asyncpg.Connection, name: str
) -> None:
    token = await dialect_client.register("alice")
    response = await dialect_client.post(f"/api/profiles/{name}/follow", token=token)
    assert_invalid(response, dialect.invalid, profile="can't be your own")
    assert await db.fetchval("select count(*) from follows") == 0
    shown = await dialect_client.get("/api/profiles/alice", token=token)
    assert shown.body == {"profile": expected_profile("alice", dialect.no_bio)}


async def test_unknown_profile_is_not_found(client: Client, alice: str) -> None:
    for method, path in [
        ("GET", "/api/profiles/ghost"),
        ("POST", "/api/profiles/ghost/follow"),
        ("DELETE", "/api/profiles/ghost/follow"),
    ]:
        response = await client.send(method, path, token=alice)
        assert_error(response, 404, "not_found", NOT_FOUND)


@pytest.mark.parametrize("name", ["bob", "ghost"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_follow_requires_authentication(
    client: Client, bob: str, method: str, name: str
) -> None:
    response = await client.send(method, f"/api/profiles/{name}/follow")
    assert_error(response, 401, "token_missing", {"token": ["is missing"]})
    response = await client.send(method, f"/api/profiles/{name}/follow", token="stale")
    assert_error(response, 401, "token_invalid", {"token": ["is invalid"]})


async def test_request_with_an_invalid_token_is_anonymous_when_authentication_is_optional(
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
            response = await client.get(path, headers=headers)
            assert (response.status, response.body) == (200, (await client.get(path)).body)


NAME = "Zoë Ångström"


@pytest.mark.parametrize(
    "form",
    [NAME, unicodedata.normalize("NFD", NAME), NAME.upper(), NAME.lower()],
    ids=["composed", "decomposed", "upper", "lower"],
)
async def test_profile_is_found_by_each_form_of_the_username(
    client: Client, alice: str, form: str
) -> None:
    await client.register("zoe", username=NAME)
    path = f"/api/profiles/{quote(form)}"
    assert (await client.get(path)).body == {"profile": expected_profile(NAME)}
    response = await client.post(f"{path}/follow", token=alice)
    assert response.body == {"profile": expected_profile(NAME, following=True)}
    response = await client.delete(f"{path}/follow", token=alice)
    assert response.body == {"profile": expected_profile(NAME)}


@pytest.mark.parametrize(
    "name", ["a/b", "50% off", "what?", "c#sharp", "new+york", "a&b=c", "龙龙龙"]
)
async def test_profile_is_found_by_a_username_with_special_characters(
    client: Client, name: str
) -> None:
    await client.register("x", username=name)
    response = await client.get(f"/api/profiles/{quote(name, safe='')}")
    assert (response.status, response.body) == (200, {"profile": expected_profile(name)})


async def test_profile_is_found_only_by_the_new_username_after_a_change(
    client: Client, alice: str
) -> None:
    await client.put("/api/user", {"user": {"username": "alicia"}}, token=alice)
    assert (await client.get("/api/profiles/alicia")).body == {
        "profile": expected_profile("alicia")
    }
    assert_error(await client.get("/api/profiles/alice"), 404, "not_found", NOT_FOUND)


async def test_empty_json_body_is_ignored_when_the_route_has_no_body(
    client: Client, alice: str, bob: str
) -> None:
    for method, path in [
        ("GET", "/api/profiles/bob"),
        ("POST", "/api/profiles/bob/follow"),
        ("DELETE", "/api/profiles/bob/follow"),
    ]:
        for options in ({}, {"data": b""}):
            response = await client.send(method, path, token=alice, headers=JSON, **options)
            assert response.status == 200


async def test_follows_are_removed_when_a_user_closes_the_account(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    await client.register("celeb")
    await follow(client, alice, "bob", "celeb")
    await follow(client, bob, "alice", "celeb")
    await close_account(client, alice, "alice")
    assert await db.fetchval("select count(*) from follows") == 1
    assert_error(await client.get("/api/profiles/alice", token=bob), 404, "not_found", NOT_FOUND)
