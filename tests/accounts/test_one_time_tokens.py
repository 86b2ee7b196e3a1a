"""A token is used once, for one purpose, until it expires or is revoked."""

import asyncio
import json
from collections import Counter
from typing import Any
from uuid import UUID

import asyncpg
import pytest

import sql
from service.accounts.one_time_tokens import (
    KEEP_EXPIRED,
    REVOKED_BY_PASSWORD_CHANGE,
    LinkExpired,
    Purpose,
    consume,
    find,
    issue,
    revoke,
)
from service.database.pool import DATABASE, Database
from service.http.errors import ApiError, NotFound
from tests.accounts.mailed_links import client_without_delivery
from tests.conftest import Client, MakeClient

EMAIL = "alice@example.test"
VERIFY, RESET = Purpose.VERIFY_EMAIL, Purpose.RESET_PASSWORD


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


@pytest.fixture
async def database(client: Client) -> Database:
    database: Database = client.http.app[DATABASE]
    return database


@pytest.fixture
async def user_id(client: Client, db: asyncpg.Connection) -> UUID:
    """Register Alice, delete her tokens, and return her id."""
    await client.register("alice")
    await db.execute("delete from one_time_tokens")
    user_id: UUID = await db.fetchval("select id from users")
    return user_id


async def issue_to(db: asyncpg.Connection, user_id: UUID, purpose: Purpose = VERIFY) -> str:
    return await issue(db, purpose, user_id, email=EMAIL, email_key=EMAIL)


async def use(database: Database, token: str, purpose: Purpose = VERIFY) -> Any:
    """Consume ``token`` in a transaction. Return its row, or the error code."""

    async def work(connection: sql.Connection) -> Any:
        return await consume(connection, purpose, token)

    try:
        return await database.transact(work)
    except ApiError as error:
        return str(error.code)


async def is_used(db: asyncpg.Connection) -> list[bool]:
    rows = await db.fetch("select used_at is not null from one_time_tokens order by created_at")
    return [row[0] for row in rows]


async def test_token_names_its_user_and_its_email(
    database: Database, db: asyncpg.Connection, user_id: UUID
) -> None:
    token = await issue(db, VERIFY, user_id, email="Alice@Example.test", email_key=EMAIL)
    row = await use(database, token)
    assert tuple(row) == (user_id, "Alice@Example.test", EMAIL, None)
    assert await use(database, token) == "not_found"


async def test_token_keeps_its_data(
    database: Database, db: asyncpg.Connection, user_id: UUID
) -> None:
    data = {"amr": ["pwd"], "password_version": 7}
    token = await issue(db, VERIFY, user_id, data=data)
    row = await use(database, token)
    assert (row["email"], json.loads(row["data"])) == (None, data)


async def test_database_has_only_the_digest_of_a_token(
    db: asyncpg.Connection, user_id: UUID
) -> None:
    token = await issue_to(db, user_id)
    assert len(token) == 43
    (row,) = await db.fetch("select one_time_tokens::text as text, digest from one_time_tokens")
    assert token not in row["text"] and len(row["digest"]) == 32


async def test_concurrent_uses_of_one_token_succeed_once(
    database: Database, db: asyncpg.Connection, user_id: UUID
) -> None:
    token = await issue_to(db, user_id)
    results = await asyncio.gather(*(use(database, token) for _ in range(100)))
    assert Counter(isinstance(result, str) for result in results) == {True: 99, False: 1}
    assert {result for result in results if isinstance(result, str)} == {"not_found"}


async def test_token_of_another_purpose_is_unknown_and_stays_unused(
    database: Database, db: asyncpg.Connection, user_id: UUID
) -> None:
    for purpose in Purpose:
        token = await issue_to(db, user_id, purpose)
        for other in set(Purpose) - {purpose}:
            assert await use(database, token, other) == "not_found"
            with pytest.raises(NotFound):
                await find(database, other, token)
        assert (await use(database, token, purpose))["user_id"] == user_id


async def test_find_does_not_use_the_token(
    database: Database, db: asyncpg.Connection, user_id: UUID
) -> None:
    token = await issue_to(db, user_id)
    for _ in range(3):
        assert (await find(database, VERIFY, token))["email"] == EMAIL
    assert await is_used(db) == [False]


@pytest.mark.parametrize("purpose", Purpose)
async def test_token_expires_after_the_lifetime_of_its_purpose(
    database: Database, db: asyncpg.Connection, user_id: UUID, purpose: Purpose
) -> None:
    token = await issue_to(db, user_id, purpose)
    age = "update one_time_tokens set expires_at = expires_at - make_interval(secs => $1)"
    await db.execute(age, purpose.ttl - 5)
    await find(database, purpose, token)
    await db.execute(age, 5)
    with pytest.raises(LinkExpired):
        await find(database, purpose, token)
    assert await use(database, token, purpose) == "link_expired"
    assert await is_used(db) == [False]


async def test_used_token_is_unknown_after_it_expired(
    database: Database, db: asyncpg.Connection, user_id: UUID
) -> None:
    token = await issue_to(db, user_id)
    await use(database, token)
    await db.execute("update one_time_tokens set expires_at = now() - interval '1 hour'")
    assert await use(database, token) == "not_found"


@pytest.mark.parametrize("purpose", Purpose)
async def test_one_token_too_many_replaces_the_oldest_of_its_purpose(
    database: Database, db: asyncpg.Connection, user_id: UUID, purpose: Purpose
) -> None:
    other = VERIFY if purpose is RESET else RESET
    untouched = await issue_to(db, user_id, other)
    tokens = [await issue_to(db, user_id, purpose) for _ in range(purpose.max_count + 2)]
    results = [await use(database, token, purpose) for token in tokens]
    assert [isinstance(result, str) for result in results] == [
        True,
        True,
        *[False] * purpose.max_count,
    ]
    assert (await use(database, untouched, other))["user_id"] == user_id


async def test_revoke_deletes_only_the_tokens_of_these_purposes(
    database: Database, db: asyncpg.Connection, user_id: UUID
) -> None:
    tokens = {purpose: await issue_to(db, user_id, purpose) for purpose in Purpose}
    await revoke(db, user_id, {VERIFY, Purpose.CHANGE_EMAIL})
    revoked = {
        purpose
        for purpose, token in tokens.items()
        if isinstance(await use(database, token, purpose), str)
    }
    assert revoked == {VERIFY, Purpose.CHANGE_EMAIL}


async def test_password_change_revokes_every_link_but_reports(
    client: Client, database: Database, db: asyncpg.Connection, user_id: UUID
) -> None:
    tokens = {purpose: await issue_to(db, user_id, purpose) for purpose in Purpose}
    device = await client.sign_in("alice")
    changed = {"user": {"password": "another secret"}}
    assert (await client.put("/api/user", changed, token=device.access)).status == 200
    for purpose, token in tokens.items():
        is_revoked = isinstance(await use(database, token, purpose), str)
        assert is_revoked is (purpose in REVOKED_BY_PASSWORD_CHANGE) is (purpose != "report")


async def test_logins_and_other_changes_revoke_no_link(
    client: Client, database: Database, db: asyncpg.Connection, user_id: UUID
) -> None:
    tokens = {purpose: await issue_to(db, user_id, purpose) for purpose in Purpose}
    for _ in range(10):
        device = await client.sign_in("alice")
    for change in ({"bio": "x"}, {"username": "alison"}, {"email": EMAIL, "bio": "y"}):
        await client.put("/api/user", {"user": change}, token=device.access)
    for purpose, token in tokens.items():
        assert (await use(database, token, purpose))["user_id"] == user_id


async def test_tokens_are_deleted_with_the_account(
    client: Client, database: Database, db: asyncpg.Connection, user_id: UUID
) -> None:
    tokens = {purpose: await issue_to(db, user_id, purpose) for purpose in Purpose}
    device = await client.sign_in("alice")
    body = {"user": {"password": "alice-secret"}}
    assert (await client.delete("/api/user", body, token=device.access)).status == 204
    assert await db.fetchval("select count(*) from one_time_tokens") == 0
    for purpose, token in tokens.items():
        assert await use(database, token, purpose) == "not_found"


async def test_cleanup_deletes_tokens_some_time_after_they_expired(
    database: Database, db: asyncpg.Connection, user_id: UUID
) -> None:
    tokens = [await issue_to(db, user_id) for _ in range(3)]
    for number, age in enumerate((KEEP_EXPIRED + 60, KEEP_EXPIRED - 60)):
        await db.execute(
            "update one_time_tokens set expires_at = now() - make_interval(secs => $1)"
            " where digest = sha256($2)",
            age,
            tokens[number].encode(),
        )
    delete = sql.one_time_tokens.delete_expired
    assert await delete(database, max_age=KEEP_EXPIRED, limit=10) == 1
    results = [await use(database, token) for token in tokens]
    assert results[:2] == ["not_found", "link_expired"] and not isinstance(results[2], str)
