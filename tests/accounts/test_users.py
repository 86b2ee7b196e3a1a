import asyncpg
import bcrypt
import pytest

from tests.accounts.jake import JAKE, user_of
from tests.accounts.logins import count_hashes
from tests.conftest import SECRET, Client, Dialect, MakeClient, Response
from tests.responses import assert_invalid

BLANK = "can't be blank"


def login_body(response: Response, dialect: Dialect) -> dict[str, object]:
    """Return the body of a registration or login of Jake, with the tokens of ``response``."""
    siblings = {"refresh_token": response.body["refresh_token"], "expires_in": 86_400}
    return {**user_of(response, dialect), **siblings}


async def test_registration_returns_the_user_and_tokens(
    dialect_client: Client, dialect: Dialect
) -> None:
    response = await dialect_client.post("/api/users", {"user": JAKE})
    assert response.status == dialect.registered
    assert response.body == login_body(response, dialect)
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_registration_returns_a_valid_access_token(
    dialect_client: Client, dialect: Dialect
) -> None:
    registered = await dialect_client.post("/api/users", {"user": JAKE})
    response = await dialect_client.get("/api/user", token=registered.body["user"]["token"])
    assert response.status == 200
    assert response.body == user_of(response, dialect)


async def test_login_returns_the_user_and_tokens(dialect_client: Client, dialect: Dialect) -> None:
    await dialect_client.register("jake", **JAKE)
    credentials = {"email": "jake@jake.jake", "password": "jakejake"}
    response = await dialect_client.post("/api/users/login", {"user": credentials})
    assert response.status == 200
    assert response.body == login_body(response, dialect)
    again = await dialect_client.get("/api/user", token=response.body["user"]["token"])
    assert again.body == user_of(again, dialect)


@pytest.mark.parametrize(
    ("email", "message"),
    [
        ("no email at all", "is not a valid email address"),
        ("a" * 255, "is too long (maximum is 254 characters)"),
    ],
)
async def test_login_rejects_malformed_email_as_invalid_input(
    dialect_client: Client,
    dialect: Dialect,
    db: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    email: str,
    message: str,
) -> None:
    """No account can have such an email: no password is verified, and no attempt is counted."""
    hashed = count_hashes(dialect_client, monkeypatch)
    given = {"email": email, "password": "not the password"}
    response = await dialect_client.post("/api/users/login", {"user": given})
    assert_invalid(response, dialect.invalid, email=message)
    assert hashed == []
    assert await db.fetchval("select count(*) from throttle") == 0


async def test_registration_reports_every_invalid_field(
    dialect_client: Client, dialect: Dialect
) -> None:
    given = {"username": "", "email": "no email", "password": "short"}
    response = await dialect_client.post("/api/users", {"user": given})
    assert_invalid(
        response,
        dialect.invalid,
        email="is not a valid email address",
        password="is too short (minimum is 8 characters)",
        username=BLANK,
    )


@pytest.mark.parametrize("value", ["absent", None, "", " "])
async def test_login_reports_every_missing_field(
    dialect_client: Client, dialect: Dialect, value: str | None
) -> None:
    given = {} if value == "absent" else {"email": value, "password": value}
    response = await dialect_client.post("/api/users/login", {"user": given})
    assert_invalid(response, dialect.invalid, email=BLANK, password=BLANK)


async def test_password_is_stored_as_a_bcrypt_hash_of_the_configured_cost(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(bcrypt_cost=5)
    await client.register("jake", **JAKE)
    stored = await db.fetchval("select password_hash from users")
    assert stored.startswith("$2b$05$")
    assert bcrypt.checkpw(b"jakejake", stored.encode())


async def test_no_response_contains_a_hash_or_password(client: Client) -> None:
    token = await client.register("jake", **JAKE)
    credentials = {"email": "jake@jake.jake", "password": "jakejake"}
    responses = [
        await client.post("/api/users", {"user": JAKE}),
        await client.post("/api/users/login", {"user": credentials}),
        await client.get("/api/user", token=token),
        await client.put("/api/user", {"user": {"password": "another one"}}, token=token),
        await client.delete("/api/user", {"user": {"password": "wrong"}}, token=token),
        await client.delete("/api/user", {"user": {"password": "another one"}}, token=token),
    ]
    assert [response.status for response in responses] == [409, 200, 200, 200, 401, 204]
    for response in responses:
        for secret in ("$2b$", "password_hash", "jakejake", "another one", SECRET):
            assert secret not in str(response.body) + str(response.headers)
