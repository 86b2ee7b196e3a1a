"""Read, update and delete the current user."""

from tests.accounts.jake import JAKE, user_of
from tests.conftest import Client, Dialect
from tests.responses import assert_error, assert_invalid

BLANK = "can't be blank"


async def test_current_user_gets_a_valid_access_token(
    dialect_client: Client, dialect: Dialect
) -> None:
    token = await dialect_client.register("jake", **JAKE)
    for _ in range(3):
        response = await dialect_client.get("/api/user", token=token)
        assert response.status == 200
        assert response.body == user_of(response, dialect)
        token = response.body["user"]["token"]


async def test_deletion_has_no_body_and_revokes_the_token(dialect_client: Client) -> None:
    token = await dialect_client.register("jake", **JAKE)
    response = await dialect_client.delete(
        "/api/user", {"user": {"password": "jakejake"}}, token=token
    )
    assert (response.status, response.body) == (204, None)
    assert "Content-Length" not in response.headers or response.headers["Content-Length"] == "0"
    after = await dialect_client.get("/api/user", token=token)
    assert_error(after, 401, "token_revoked", {"token": ["has been revoked"]})
    again = await dialect_client.delete(
        "/api/user", {"user": {"password": "jakejake"}}, token=token
    )
    assert_error(again, 401, "token_revoked", {"token": ["has been revoked"]})


async def test_deletion_frees_username_and_email(client: Client) -> None:
    old_token = await client.register("jake", **JAKE)
    await client.delete("/api/user", {"user": {"password": "jakejake"}}, token=old_token)
    new_token = await client.register("jake", **JAKE)
    assert (await client.get("/api/user", token=new_token)).status == 200
    # The new account is not the old one: the old token is not valid for it.
    assert (await client.get("/api/user", token=old_token)).status == 401


async def test_deletion_keeps_other_accounts(client: Client, alice: str, bob: str) -> None:
    await client.delete("/api/user", {"user": {"password": "alice-secret"}}, token=alice)
    assert (await client.get("/api/user", token=alice)).status == 401
    assert (await client.get("/api/user", token=bob)).body["user"]["username"] == "bob"


async def test_update_reports_every_invalid_field(dialect_client: Client, dialect: Dialect) -> None:
    token = await dialect_client.register("jake", **JAKE)
    given = {"username": "x", "email": "x", "password": "x", "bio": 1, "image": "x" * 2049}
    response = await dialect_client.put("/api/user", {"user": given}, token=token)
    assert_invalid(
        response,
        dialect.invalid,
        bio="must be a string",
        email="is not a valid email address",
        image="is too long (maximum is 2048 characters)",
        password="is too short (minimum is 8 characters)",
        username="is too short (minimum is 3 characters)",
    )
