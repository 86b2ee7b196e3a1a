"""What a new password must be."""

import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.accounts.passwords.policy import create_policy
from service.settings.settings import Settings
from tests.accounts.mailed_links import FORGOT, RESET, client_without_delivery, last_token
from tests.conftest import Client, MakeClient
from tests.responses import assert_invalid

TOO_COMMON = "is too common"
REFUSED = {
    "common": "password1",
    "common in upper case": "PASSWORD1",
    "the username": "wonderland",
    "the username with digits": "Wonderland2026!",
    "the email": "alice.liddell@example.test",
    "the local part": "alice.liddell",
    "the username in another form": "\uff37onderland",
}
ACCEPTED = ["correct horse battery", "wonderland is mine", "alice-and-bob", "12!34?56%78"]


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client, password_blocklist="common")


def user_with(password: str) -> dict[str, Any]:
    email = "alice.liddell@example.test"
    return {"user": {"username": "Wonderland", "email": email, "password": password}}


@pytest.mark.parametrize("password", REFUSED.values(), ids=REFUSED)
async def test_common_password_is_refused_everywhere(
    client: Client, db: asyncpg.Connection, password: str
) -> None:
    response = await client.post("/api/users", user_with(password))
    assert_invalid(response, 400, password=TOO_COMMON)
    token = (await client.post("/api/users", user_with(ACCEPTED[0]))).body["user"]["token"]
    response = await client.put("/api/user", {"user": {"password": password}}, token=token)
    assert_invalid(response, 400, password=TOO_COMMON)
    await client.post(FORGOT, {"email": "alice.liddell@example.test"})
    link = await last_token(db, "alice.liddell@example.test", "reset_password")
    response = await client.post(RESET, {"token": link, "new_password": password})
    assert_invalid(response, 400, new_password=TOO_COMMON)


@pytest.mark.parametrize("password", ACCEPTED)
async def test_other_password_is_accepted(client: Client, password: str) -> None:
    assert (await client.post("/api/users", user_with(password))).status == 200


@pytest.mark.parametrize(
    ("username", "email", "password"),
    [
        ("4917012345678", "alice@example.test", "4917012345678"),
        ("alice", "4917012345678@example.test", "4917012345678"),
        ("::alice-2026::", "alice@example.test", "::Alice-2026::"),
    ],
)
async def test_name_of_digits_cannot_be_the_password(
    client: Client, username: str, email: str, password: str
) -> None:
    user = {"username": username, "email": email, "password": password}
    assert_invalid(await client.post("/api/users", {"user": user}), 400, password=TOO_COMMON)


async def test_long_name_in_the_body_takes_no_time(client: Client) -> None:
    """A search for the digits at its end takes the square of its length, if it backtracks."""
    long_name = "a" + "1" * 20_000 + "a"
    started = time.process_time()
    for name in ("username", "email"):
        user = user_with(ACCEPTED[0])["user"] | {name: long_name}
        assert (await client.post("/api/users", {"user": user})).status == 400
    assert time.process_time() - started < 1


async def test_new_username_of_an_update_cannot_be_its_password(client: Client) -> None:
    token = (await client.post("/api/users", user_with(ACCEPTED[0]))).body["user"]["token"]
    user = {"username": "cheshire-cat", "password": "cheshire-cat"}
    response = await client.put("/api/user", {"user": user}, token=token)
    assert_invalid(response, 400, password=TOO_COMMON)


async def test_refused_password_is_reported_with_the_other_fields(client: Client) -> None:
    response = await client.post("/api/users", {"user": {"email": "x", "password": "password1"}})
    assert_invalid(
        response,
        400,
        email="is not a valid email address",
        password=TOO_COMMON,
        username="can't be blank",
    )


async def test_minimum_length_can_be_raised(make_client: MakeClient) -> None:
    client = await make_client(password_min_length=15)
    response = await client.post("/api/users", user_with("fourteen chars"))
    assert_invalid(response, 400, password="is too short (minimum is 15 characters)")
    assert (await client.post("/api/users", user_with("fifteen charact"))).status == 200


async def test_argon2id_takes_long_passwords(make_client: MakeClient) -> None:
    client = await make_client(password_algorithm="argon2id")
    assert (await client.post("/api/users", user_with("é" * 512))).status == 200
    login = {"user": {"email": "alice.liddell@example.test", "password": "é" * 512}}
    assert (await client.post("/api/users/login", login)).status == 200
    response = await client.post("/api/users", user_with("é" * 512 + "x"))
    assert_invalid(response, 400, password="is too long (maximum is 1024 bytes)")


async def test_name_of_the_service_is_refused(tmp_path: Path) -> None:
    settings = Settings(
        password_blocklist="common", base_url="https://accounts.example.org", data_dir=tmp_path
    )
    policy = create_policy(settings)
    for password in ("accounts.example.org", "Accounts2026", "example1"):
        assert await policy.errors(password) == [TOO_COMMON]


async def test_values_of_another_type_are_left_to_their_validators(tmp_path: Path) -> None:
    policy = create_policy(Settings(password_blocklist="common", data_dir=tmp_path))
    values: list[Any] = [None, 7, ["password1"], {}, "", "  "]
    for value in values:
        assert await policy.errors(value, None, 7) == []
