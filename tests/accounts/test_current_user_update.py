from typing import Any

import asyncpg
import pytest

from tests.conftest import Client, Dialect, MakeClient
from tests.responses import assert_error, assert_invalid

ALICE = {"email": "alice@example.test", "username": "alice", "image": None}
BLANK = "can't be blank"


async def change(client: Client, token: str, fields: Any) -> Any:
    """Update the user of ``token``, and return the user of the response without the token."""
    response = await client.put("/api/user", {"user": fields}, token=token)
    assert response.status == 200, response
    fresh = response.body["user"].pop("token")
    assert set(response.body) == {"user"}
    # The response shows the stored user, and its token is valid.
    seen = await client.get("/api/user", token=fresh)
    seen.body["user"].pop("token")
    assert seen.body == response.body
    return response.body["user"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("email", "alice@elsewhere.test"),
        ("username", "alicia"),
        ("bio", "I like to skateboard"),
        ("image", "https://i.stack.imgur.com/xHWG8.jpg"),
    ],
)
async def test_update_changes_one_field(
    dialect_client: Client, dialect: Dialect, name: str, value: str
) -> None:
    token = await dialect_client.register("alice")
    user = await change(dialect_client, token, {name: value})
    # In the default dialect an email changes when it is confirmed.
    changed = {} if name == "email" and not dialect.strict else {name: value}
    assert user == {**ALICE, "bio": dialect.no_bio, **changed}


async def test_update_replaces_the_password(dialect_client: Client, dialect: Dialect) -> None:
    token = await dialect_client.register("alice")
    user = await change(dialect_client, token, {"password": "a new password"})
    assert user == {**ALICE, "bio": dialect.no_bio}
    statuses = []
    for password in ("alice-secret", "a new password"):
        credentials = {"email": "alice@example.test", "password": password}
        statuses.append(
            (await dialect_client.post("/api/users/login", {"user": credentials})).status
        )
    assert statuses == [401, 200]


async def test_update_replaces_the_email_of_the_login_in_the_strict_dialect(
    make_client: MakeClient,
) -> None:
    client = await make_client(realworld_strict=True)
    alice = await client.register("alice")
    await change(client, alice, {"email": "alice@elsewhere.test"})
    statuses = []
    for email in ("alice@example.test", "alice@elsewhere.test"):
        credentials = {"email": email, "password": "alice-secret"}
        statuses.append((await client.post("/api/users/login", {"user": credentials})).status)
    assert statuses == [401, 200]


async def test_update_changes_all_fields(dialect_client: Client, dialect: Dialect) -> None:
    token = await dialect_client.register("alice")
    fields = {
        "email": "al@example.test",
        "username": "al ice",
        "bio": "line one\nline two",
        "image": "http://example.test/al.png?size=2",
    }
    user = await change(dialect_client, token, {**fields, "password": "a new password"})
    assert user == {**fields, "email": fields["email"] if dialect.strict else ALICE["email"]}


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize("name", ["bio", "image"])
async def test_update_clears_bio_and_image_with_null_or_an_empty_string(
    dialect_client: Client, dialect: Dialect, name: str, nothing: str | None, db: asyncpg.Connection
) -> None:
    token = await dialect_client.register("alice")
    await change(dialect_client, token, {"bio": "something", "image": "https://example.test/a.png"})
    user = await change(dialect_client, token, {name: nothing})
    assert user[name] == (dialect.no_bio if name == "bio" else None)
    kept = {"bio": "something", "image": "https://example.test/a.png"}
    del kept[name]
    assert user == {**user, **kept}
    assert await db.fetchval(f"select {name} is null from users")  # noqa: S608


async def test_update_keeps_fields_that_are_not_given(client: Client, alice: str) -> None:
    before = await change(client, alice, {"bio": "mine", "image": "https://example.test/a.png"})
    assert await change(client, alice, {"username": "alicia"}) == {**before, "username": "alicia"}


async def test_update_ignores_unknown_fields(dialect_client: Client, dialect: Dialect) -> None:
    token = await dialect_client.register("alice")
    unknown = {"id": "x", "password_hash": "x", "createdAt": 5, "token": "x", "email_key": "x"}
    user = await change(dialect_client, token, {**unknown, "bio": "known"})
    assert user == {**ALICE, "bio": "known"}


@pytest.mark.parametrize("fields", [{}, {"unknown": 1}], ids=["nothing", "only unknown fields"])
async def test_update_is_rejected_when_it_has_no_field(
    dialect_client: Client, dialect: Dialect, fields: dict[str, Any]
) -> None:
    token = await dialect_client.register("alice")
    response = await dialect_client.put("/api/user", {"user": fields}, token=token)
    assert_invalid(response, dialect.invalid, user="must have at least one field to change")


@pytest.mark.parametrize("nothing", [None, "", "  ", "\t\n"])
@pytest.mark.parametrize("name", ["email", "username", "password"])
async def test_update_rejects_empty_email_username_and_password(
    dialect_client: Client, dialect: Dialect, name: str, nothing: str | None
) -> None:
    token = await dialect_client.register("alice")
    response = await dialect_client.put("/api/user", {"user": {name: nothing}}, token=token)
    assert_invalid(response, dialect.invalid, **{name: BLANK})


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({"username": "bob"}, ["username"]),
        ({"email": "bob@example.test"}, ["email"]),
        ({"username": "BOB", "email": "Bob@Example.TEST"}, ["email", "username"]),
        ({"username": "bob", "email": "free@example.test"}, ["username"]),
    ],
    ids=["username", "email", "both, in another case", "one of two"],
)
async def test_update_changes_nothing_when_a_field_is_taken(
    dialect_client: Client, dialect: Dialect, fields: dict[str, str], taken: list[str]
) -> None:
    token = await dialect_client.register("alice")
    await dialect_client.register("bob")
    response = await dialect_client.put(
        "/api/user", {"user": {**fields, "bio": "new"}}, token=token
    )
    assert_error(
        response, 409, "already_taken", {name: ["has already been taken"] for name in taken}
    )
    seen = await dialect_client.get("/api/user", token=token)
    seen.body["user"].pop("token")
    assert seen.body["user"] == {**ALICE, "bio": dialect.no_bio}


async def test_update_accepts_the_current_values(client: Client, alice: str) -> None:
    own = {"username": "alice", "email": "alice@example.test"}
    assert await change(client, alice, own) == {**ALICE, "bio": ""}


async def test_update_can_change_the_case_of_username_and_email(make_client: MakeClient) -> None:
    client = await make_client(realworld_strict=True)
    alice = await client.register("alice")
    # The domain of an email has no case: it is stored in lower case.
    own = {"username": "Alice", "email": "Alice@example.test"}
    assert await change(client, alice, own) == {**ALICE, **own, "bio": None}


async def test_update_changes_nothing_when_a_field_is_invalid(client: Client, alice: str) -> None:
    given = {"username": "alicia", "bio": "x" * 501}
    response = await client.put("/api/user", {"user": given}, token=alice)
    assert_invalid(response, 400, bio="is too long (maximum is 500 characters)")
    assert (await client.get("/api/user", token=alice)).body["user"]["username"] == "alice"
