"""What is true of every mailed link: the token alone decides, and it works once."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from service.accounts.link_pages import LINK_QUERY
from service.accounts.one_time_tokens import Purpose, issue
from service.settings.rate_limit import NO_LIMIT
from tests.accounts.mailed_links import (
    BAD_TOKENS,
    CONFIRM_CHANGE,
    DECLINE,
    REPORT,
    RESET,
    UNLOCK,
    VERIFY,
    client_without_delivery,
)
from tests.accounts.two_instances import queries_of
from tests.conftest import Client, MakeClient

LINKS = {
    VERIFY: Purpose.VERIFY_EMAIL,
    DECLINE: Purpose.VERIFY_EMAIL,
    CONFIRM_CHANGE: Purpose.CHANGE_EMAIL,
    RESET: Purpose.RESET_PASSWORD,
    REPORT: Purpose.REPORT,
    UNLOCK: Purpose.UNLOCK_LOGIN,
}
"""The routes that use the token of a mailed link, and the purpose of the token."""

EVERY_LINK = pytest.mark.parametrize("path", LINKS)
PASSWORD = {"new_password": "another secret"}
ACCOUNTS = """
    select users.*, count(distinct digest) as links, count(distinct sessions.id) as sessions
    from users
        left join one_time_tokens on user_id = users.id and used_at is null
        left join sessions on sessions.user_id = users.id and ended_at is null
    where username = 'bob'
    group by users.id
"""


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


async def issue_to(db: asyncpg.Connection, name: str, path: str) -> str:
    """Return a new token of the user ``name`` for the route ``path``."""
    user_id = await db.fetchval("select id from users where username = $1", name)
    is_change = LINKS[path] is Purpose.CHANGE_EMAIL
    email = "new@example.test" if is_change else f"{name}@example.test"
    async with db.transaction():
        return await issue(db, LINKS[path], user_id, email=email, email_key=email)


def test_links_are_all_routes_that_take_a_token(client: Client) -> None:
    operations = {
        (route.method, route.resource.canonical): getattr(route.handler, "operation", None)
        for route in client.http.app.router.routes()
        if route.resource is not None
    }
    posts = {
        path
        for (method, path), operation in operations.items()
        if method == "POST" and operation is not None and operation.pages
    }
    pages = {path for (_, path), operation in operations.items() if is_link_page(operation)}
    assert posts == set(LINKS) == pages | {DECLINE}


def is_link_page(operation: Any) -> bool:
    return operation is not None and operation.query is LINK_QUERY


@EVERY_LINK
async def test_value_that_is_no_token_is_rejected_without_a_query(
    client: Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    names = queries_of(monkeypatch)
    for body in BAD_TOKENS.values():
        response = await client.post(path, {**body, **PASSWORD})
        assert (response.status, set(response.body["errors"])) == (400, {"token"})
    assert names == []


@EVERY_LINK
async def test_fields_beside_the_token_touch_no_other_account(
    client: Client, alice: str, bob: str, db: asyncpg.Connection, path: str
) -> None:
    bob_before = await db.fetchrow(ACCOUNTS)
    other = {"email": "bob@example.test", "username": "bob", "id": str(bob_before["id"])}
    beside = {**other, "user": other, "user_id": other["id"], "purpose": LINKS[path]}
    token = await issue_to(db, "alice", path)
    response = await client.post(path, {**beside, **PASSWORD, "token": token})
    assert response.status == 200, response.body
    assert await db.fetchrow(ACCOUNTS) == bob_before
    assert await client.is_authenticated(bob)


@EVERY_LINK
async def test_one_of_100_simultaneous_uses_succeeds(
    make_client: MakeClient, db: asyncpg.Connection, path: str
) -> None:
    client = await client_without_delivery(make_client, password_change_limit=NO_LIMIT)
    await client.register("alice")
    token = await issue_to(db, "alice", path)
    uses = (client.post(path, {"token": token, **PASSWORD}) for _ in range(100))
    responses = await asyncio.gather(*uses)
    assert Counter(response.status for response in responses) == {200: 1, 404: 99}
