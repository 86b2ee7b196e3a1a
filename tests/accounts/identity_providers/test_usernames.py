"""The username of an account that a provider registers."""

import re

import asyncpg
import pytest

from service.accounts import fields
from service.accounts.identity_providers.usernames import choose_username
from service.database.pool import DATABASE, Database
from tests.conftest import Client


@pytest.fixture
def database(client: Client) -> Database:
    app = client.http.app
    assert app is not None
    database: Database = app[DATABASE]
    return database


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("jake", "Jake Jones"), "jake"),
        (("  Jake\t\n Jones ",), "Jake Jones"),
        (("ab", "Jake"), "Jake"),
        (("\u202e\u200b", "Jake"), "Jake"),
        (("a\0b\u202ec",), "a b c"),
        (("Jürgen Müller",), "Jürgen Müller"),
        (("a" * 80,), "a" * 50),
        ((), "user"),
        (("", "  ", "x"), "user"),
    ],
)
async def test_username_is_the_first_name_that_can_be(
    database: Database, names: tuple[str, ...], expected: str
) -> None:
    username = await choose_username(database, names)
    assert username == expected == fields.username(username)


async def test_username_gets_digits_when_it_is_taken(client: Client, database: Database) -> None:
    await client.register("jake")
    found = {await choose_username(database, ("JAKE",)) for _ in range(5)}
    assert all(re.fullmatch(r"JAKE[0-9]{4}", name) for name in found)
    assert len(found) > 1


async def test_username_with_digits_has_at_most_50_characters(
    client: Client, database: Database, db: asyncpg.Connection
) -> None:
    await client.register("b" * 50, email="b@example.test")
    username = await choose_username(database, ("b" * 60,))
    assert re.fullmatch(r"b{46}[0-9]{4}", username)
