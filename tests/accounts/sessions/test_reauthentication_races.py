"""Proofs that race with other changes of the session or of the account."""

import asyncio
import json
from collections import Counter
from typing import Any

import asyncpg
import pytest

from tests.accounts.proofs import REQUIRES_PROOF, make_proofs_stale
from tests.accounts.two_instances import REVOKED, TwoInstances
from tests.conftest import Client, Response, until_blocked
from tests.responses import assert_error

SECRET = "alice-secret"
ALICE = "alice@example.test"
COUNT_OPEN = "select count(*) from sessions where ended_at is null"
COUNT_CHANGES = "select count(*) from one_time_tokens where purpose = 'change_email'"
CHANGE_PASSWORD = "update users set password_version = password_version + 1, password_hash = ''"
END_SESSIONS = "update sessions set ended_at = now(), end_reason = 'session_ended'"


async def reauthenticate(client: Client, token: str, password: str = SECRET) -> Response:
    return await client.post("/api/auth/reauthenticate", {"password": password}, token=token)


async def respond_after(db: asyncpg.Connection, request: Any, meanwhile: str) -> Response:
    """Return the response to ``request``, which waits for the user's row during ``meanwhile``."""
    async with db.transaction():
        await db.execute("select from users for update")
        waiting = asyncio.create_task(request)
        await until_blocked(db, 1)
        await db.execute(meanwhile)
    response: Response = await waiting
    return response


async def test_one_of_concurrent_reauthentications_succeeds(
    client: Client, db: asyncpg.Connection
) -> None:
    token = await client.register("alice")
    responses = await asyncio.gather(*(reauthenticate(client, token) for _ in range(4)))
    assert Counter(response.status for response in responses) == {200: 1, 401: 3}
    assert await db.fetchval("select count(*) from sessions where ended_at is null") == 1


async def test_reauthentication_ends_with_a_revoked_session_when_the_session_ends_meanwhile(
    client: Client, db: asyncpg.Connection
) -> None:
    """The session is ended from another device while the password is verified."""
    device = await client.open_account("alice")
    other = await client.sign_in("alice")
    results = await asyncio.gather(
        *(reauthenticate(client, device.access) for _ in range(3)),
        client.delete(f"/api/user/sessions/{device.session}", token=other.access),
    )
    open_sessions = await db.fetch("select id from sessions where ended_at is null")
    won = [result for result in results[:3] if result.status == 200]
    # Either the reauthentication came first, and the other device found no such session, or it
    # opened none.
    assert len(open_sessions) == 1 + len(won)
    assert results[3].status == (404 if won else 204)


async def test_refresh_that_races_with_a_reauthentication_leaves_one_open_session(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    results = await asyncio.gather(
        reauthenticate(client, device.access), *(client.refresh(device.refresh) for _ in range(5))
    )
    assert results[0].status == 200
    assert await db.fetchval("select count(*) from sessions where ended_at is null") == 1
    assert await client.is_authenticated(results[0].body["access_token"])


async def test_reauthentication_is_rejected_when_the_password_changes_after_its_verification(
    client: Client, db: asyncpg.Connection
) -> None:
    """The same session changes the password, so that the session does not end."""
    token = await client.register("alice")
    response = await respond_after(db, reauthenticate(client, token), CHANGE_PASSWORD)
    assert_error(response, 401, "invalid_credentials", {"credentials": ["invalid"]})
    assert await db.fetchval("select count(*) from sessions") == 1
    assert await client.is_authenticated(token)


async def test_reauthentication_opens_no_session_when_its_session_ends_after_the_verification(
    client: Client, db: asyncpg.Connection
) -> None:
    token = await client.register("alice")
    response = await respond_after(db, reauthenticate(client, token), END_SESSIONS)
    assert (response.status, response.body) == (401, REVOKED)
    assert await db.fetchval("select count(*) from sessions") == 1


async def test_current_password_is_no_proof_when_it_changes_after_its_verification(
    client: Client, db: asyncpg.Connection
) -> None:
    token = await client.register("alice")
    user = {"password": "another secret", "current_password": SECRET}
    request = client.put("/api/user", {"user": user}, token=token)
    response = await respond_after(db, request, CHANGE_PASSWORD)
    assert_error(response, 401, "invalid_credentials", {"credentials": ["invalid"]})
    assert await db.fetchval("select password_hash from users") == ""


async def test_old_email_is_no_change_without_a_proof_when_the_cache_is_out_of_date(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    """The owner has left a mailbox that a thief reads. The thief has an access token too."""
    await make_proofs_stale(instances.second, db)
    user = {"user": {"email": ALICE}}
    assert (await instances.second.put("/api/user", user, token=instances.token)).status == 200
    await db.execute("alter table users disable trigger users_changed_notify")
    await db.execute("update users set email = 'new@example.test', email_key = 'new@example.test'")
    await db.execute("alter table users enable trigger users_changed_notify")
    response = await instances.second.put("/api/user", user, token=instances.token)
    assert (response.status, response.body["user"]["email"]) == (200, "new@example.test")
    assert await db.fetchval(COUNT_CHANGES) == 0


@pytest.mark.parametrize("field", [{"email": ALICE}, {"password": "another secret"}])
async def test_slow_body_changes_no_credentials_when_the_email_and_the_proof_change_meanwhile(
    instances: TwoInstances, db: asyncpg.Connection, field: dict[str, str]
) -> None:
    client = instances.second
    body = json.dumps({"user": field}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.http.server.port)
    head = f"PUT /api/user HTTP/1.1\r\nHost: x\r\nAuthorization: Token {instances.token}\r\n"
    head += f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    # The service requests the body: it has accepted the token.
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    await db.execute("update users set email = 'new@example.test', email_key = 'new@example.test'")
    await make_proofs_stale(client, db)
    writer.write(body)
    response = await reader.read()
    writer.close()
    assert response.startswith(b"HTTP/1.1 403 ")
    assert json.loads(response.partition(b"\r\n\r\n")[2]) == REQUIRES_PROOF
    assert await db.fetchval(COUNT_CHANGES) == 0
