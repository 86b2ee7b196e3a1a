"""The page of the link that changes an email, and its form."""

import asyncpg
import pytest

from tests.accounts.mailed_links import (
    CONFIRM_CHANGE,
    UNKNOWN_TOKEN,
    client_without_delivery,
    is_verified,
    last_token,
    open_page,
    submit,
)
from tests.conftest import Client, Dialect, MakeClient

NEW = "a&b@example.test"


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


@pytest.fixture
async def token(client: Client, alice: str, db: asyncpg.Connection) -> str:
    """Request a change of Alice's email, and return the token in the mail."""
    assert (await client.put("/api/user", {"user": {"email": NEW}}, token=alice)).status == 200
    return await last_token(db, NEW, "change_email")


async def test_opening_the_page_uses_no_token(
    client: Client, token: str, db: asyncpg.Connection
) -> None:
    for _ in range(3):
        assert (await open_page(client, CONFIRM_CHANGE, token)).status == 200
        async with client.http.head(CONFIRM_CHANGE, params={"token": token}) as head:
            assert head.status == 200
        async with client.http.options(CONFIRM_CHANGE, params={"token": token}) as options:
            assert options.status == 405
    used = "select count(*) from one_time_tokens where used_at is not null"
    assert await db.fetchval(used) == 0
    assert not await is_verified(db, NEW)
    assert (await client.post(CONFIRM_CHANGE, {"token": token})).status == 200


async def test_page_shows_the_new_email_and_one_form(client: Client, token: str) -> None:
    page = await open_page(client, CONFIRM_CHANGE, token)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "a&amp;b@example.test" in page.body and "alice" not in page.body
    assert page.body.count(f'name="token" value="{token}"') == 1
    assert f'<form method="post" action="{CONFIRM_CHANGE}">' in page.body
    assert "<script" not in page.body and "$" not in page.body
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"


async def test_form_changes_the_email_with_a_page(
    client: Client, token: str, db: asyncpg.Connection
) -> None:
    page = await submit(client, CONFIRM_CHANGE, token=token, email="evil@example.test")
    assert page.status == 200 and "<h1>Email changed</h1>" in page.body
    assert await is_verified(db, NEW)
    again = await submit(client, CONFIRM_CHANGE, token=token)
    assert again.status == 404 and "<h1>This link is not valid</h1>" in again.body


async def test_form_says_that_another_account_has_the_email(client: Client, token: str) -> None:
    await client.register("bob", email=NEW)
    page = await submit(client, CONFIRM_CHANGE, token=token)
    assert page.status == 409 and "<h1>This email has been taken</h1>" in page.body


async def test_form_and_page_show_errors_as_pages(
    make_client: MakeClient, token: str, db: asyncpg.Connection, dialect: Dialect
) -> None:
    client = await client_without_delivery(make_client, realworld_strict=dialect.strict)
    await db.execute("update one_time_tokens set expires_at = now() - interval '1 hour'")
    expected = {
        token: (410, "This link has expired"),
        UNKNOWN_TOKEN: (404, "This link is not valid"),
        "": (dialect.invalid, "This link is not complete"),
        "A" * 5000: (dialect.invalid, "This link is not complete"),
    }
    for given, (status, title) in expected.items():
        for page in (
            await open_page(client, CONFIRM_CHANGE, given),
            await submit(client, CONFIRM_CHANGE, token=given),
        ):
            assert page.status == status and f"<h1>{title}</h1>" in page.body
