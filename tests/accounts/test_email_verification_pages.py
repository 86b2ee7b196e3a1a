"""The page of the link that verifies an email, and its forms."""

import asyncpg
import pytest

from tests.accounts.mailed_links import (
    DECLINE,
    UNKNOWN_TOKEN,
    VERIFY,
    client_without_delivery,
    is_verified,
    last_token,
    open_page,
    submit,
)
from tests.conftest import Client, Dialect, MakeClient

ALICE = "alice@example.test"


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


async def test_opening_the_page_uses_no_token(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await last_token(db, ALICE)
    for _ in range(3):
        assert (await open_page(client, VERIFY, token)).status == 200
        async with client.http.head(VERIFY, params={"token": token}) as head:
            assert head.status == 200
        async with client.http.options(VERIFY, params={"token": token}) as options:
            assert options.status == 405
    assert await db.fetchval("select count(*) from one_time_tokens where used_at is null") == 1
    assert not await is_verified(db)
    assert (await client.post(VERIFY, {"token": token})).status == 200


async def test_page_shows_the_email_and_both_choices(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.register("alice", email="a&b@example.test")
    token = await last_token(db, "a&b@example.test")
    page = await open_page(client, VERIFY, token)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "a&amp;b@example.test" in page.body and "alice" not in page.body
    assert page.body.count(f'name="token" value="{token}"') == 2
    for action in (VERIFY, DECLINE):
        assert f'<form method="post" action="{action}">' in page.body
    assert "<script" not in page.body and "$" not in page.body


async def test_page_has_the_headers_of_a_private_page(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    page = await open_page(client, VERIFY, await last_token(db, ALICE))
    assert page.headers["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'self'"
    )
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Content-Type-Options"] == "nosniff"


async def test_form_confirms_with_a_page(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await last_token(db, ALICE)
    page = await submit(client, VERIFY, token=token, email="bob@example.test")
    assert page.status == 200 and "<h1>Email confirmed</h1>" in page.body
    assert await is_verified(db)
    again = await submit(client, VERIFY, token=token)
    assert again.status == 404 and "<h1>This link is not valid</h1>" in again.body


async def test_form_and_page_show_errors_as_pages(
    make_client: MakeClient, db: asyncpg.Connection, dialect: Dialect
) -> None:
    client = await client_without_delivery(make_client, realworld_strict=dialect.strict)
    await client.register("alice")
    token = await last_token(db, ALICE)
    await db.execute("update one_time_tokens set expires_at = now() - interval '1 hour'")
    expected = {
        token: (410, "This link has expired"),
        UNKNOWN_TOKEN: (404, "This link is not valid"),
        "": (dialect.invalid, "This link is not complete"),
        "A" * 5000: (dialect.invalid, "This link is not complete"),
    }
    for given, (status, title) in expected.items():
        for page in (
            await open_page(client, VERIFY, given),
            await submit(client, VERIFY, token=given),
            await submit(client, DECLINE, token=given),
        ):
            assert (page.status, page.headers["Content-Type"]) == (
                status,
                "text/html; charset=utf-8",
            )
            assert f"<h1>{title}</h1>" in page.body and page.headers["Cache-Control"] == "no-store"
