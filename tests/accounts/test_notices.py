"""The mails that tell the owner of an account what happened to it."""

import json

import asyncpg
import pytest

from service.accounts.throttling.throttle import NOTICE_LIMIT
from tests.accounts.mailed_links import (
    FORGOT,
    RESET,
    client_without_delivery,
    last_token,
    links,
)
from tests.conftest import Client, MakeClient

ALICE = "alice@example.test"


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


async def notices(db: asyncpg.Connection) -> list[tuple[str, str]]:
    """Return recipient and template of the queued mails, without those that verify an email."""
    rows = await db.fetch(
        "select recipient, template from outbox where template <> 'verify_email' "
        "order by created_at, template"
    )
    return [tuple(row) for row in rows]


async def test_changed_password_and_username_are_told(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    headers = {"Accept-Language": "de", "User-Agent": "buy at evil.example"}
    changed = {"user": {"password": "another secret", "username": "evil.example"}}
    response = await client.put("/api/user", changed, token=alice, headers=headers)
    assert response.status == 200
    assert await notices(db) == [(ALICE, "password_changed"), (ALICE, "username_changed")]
    for mail in await db.fetch("select * from outbox where template <> 'verify_email'"):
        values = json.loads(mail["values"])
        assert set(values) == {"time", "ip", "link", "days"}
        assert (mail["language"], values["ip"], values["days"]) == ("de", "127.0.0.1", "7")
        assert "evil" not in mail["values"]


async def test_unchanged_values_send_no_notice(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    user = {"username": "alice", "email": ALICE, "bio": "new", "image": None}
    assert (await client.put("/api/user", {"user": user}, token=alice)).status == 200
    assert await notices(db) == []


async def test_failed_update_sends_no_notice(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    user = {"username": "bob", "password": "another secret"}
    assert (await client.put("/api/user", {"user": user}, token=alice)).status == 409
    assert await notices(db) == []


async def test_reset_is_told(client: Client, alice: str, db: asyncpg.Connection) -> None:
    await client.post(FORGOT, {"email": ALICE})
    reset = {"token": await last_token(db, ALICE, "reset_password"), "new_password": "a new secret"}
    assert (await client.post(RESET, reset)).status == 200
    assert await notices(db) == [(ALICE, "reset_password"), (ALICE, "password_changed")]


async def test_many_changes_send_a_limited_number_of_notices(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    for number in range(NOTICE_LIMIT.max_count + 3):
        user = {"user": {"username": f"mallory {number}"}}
        assert (await client.put("/api/user", user, token=alice)).status == 200
    assert len(await links(db, ALICE, "username_changed")) == NOTICE_LIMIT.max_count
    changed = {"user": {"password": "another secret"}}
    assert (await client.put("/api/user", changed, token=alice)).status == 200
    assert len(await links(db, ALICE, "password_changed")) == 1
