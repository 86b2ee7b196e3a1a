"""The JSON of a user and of a login."""

import pytest

from tests.conftest import Client, Dialect

USER = {"username": "jake", "email": "jake@example.test", "password": "jake-secret"}


async def test_login_response_has_the_user_and_the_tokens(
    dialect_client: Client, dialect: Dialect
) -> None:
    responses = [
        await dialect_client.post("/api/users", {"user": USER}),
        await dialect_client.post("/api/users/login", {"user": USER}),
    ]
    assert [response.status for response in responses] == [dialect.registered, 200]
    for response in responses:
        assert set(response.body) == {"user", "refresh_token", "expires_in"}
        token = response.body["user"].pop("token")
        assert await dialect_client.is_authenticated(token)
        assert response.body["user"] == {
            "email": "jake@example.test",
            "username": "jake",
            "bio": dialect.no_bio,
            "image": None,
        }
        assert response.body["expires_in"] == dialect_client.settings.access_token_ttl


@pytest.mark.parametrize("bio", ["", None])
async def test_missing_bio_has_the_form_of_the_dialect(
    dialect_client: Client, dialect: Dialect, bio: str | None
) -> None:
    token = await dialect_client.register("jake", bio="I like trains")
    await dialect_client.put("/api/user", {"user": {"bio": bio}}, token=token)
    response = await dialect_client.get("/api/user", token=token)
    assert response.body["user"]["bio"] == dialect.no_bio
