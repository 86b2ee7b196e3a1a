"""Failures are counted by user id.

No change of email, username or spelling begins a new count.
"""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from tests.accounts.lockout_emails import queued, without_delivery
from tests.accounts.logins import ELSEWHERE, HERE, WRONG, count_hashes, login, statuses
from tests.conftest import Client, MakeClient, Response, until_blocked


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    """Return a client of a service in the strict dialect, which changes an email at once."""
    return await make_client(realworld_strict=True)


@pytest.fixture
async def proxied(make_client: MakeClient) -> Client:
    """Return a client like ``client``, behind one proxy."""
    return await make_client(realworld_strict=True, trusted_proxies=1)


async def rename(client: Client, token: str, **fields: str) -> None:
    assert (await client.put("/api/user", {"user": fields}, token=token)).status == 200


async def guess_by_deletion(client: Client, token: str, *, ip: str = HERE) -> Response:
    body, headers = {"user": {"password": WRONG}}, {"X-Forwarded-For": ip}
    return await client.delete("/api/user", body, token=token, headers=headers)


async def test_changes_of_email_username_and_spelling_begin_no_new_count(
    client: Client, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = count_hashes(client, monkeypatch)
    changes = (
        {"email": "alice{}@elsewhere.test"},
        {"username": "alice{}"},
        {"email": "ALICE{}@elsewhere.test"},
        {"email": "\uff21lice{}@elsewhere.test"},
        {"username": "\uff21LICE{}"},
    )
    seen: list[int] = []
    for number in range(30):
        seen.append((await guess_by_deletion(client, alice)).status)
        change = changes[number % len(changes)]
        await rename(client, alice, **{key: text.format(number) for key, text in change.items()})
    assert seen == [401] * 5 + [429] * 25
    assert len(hashed) == 5


async def test_concurrent_guesses_and_email_changes_verify_at_most_the_limit(
    client: Client, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = count_hashes(client, monkeypatch)

    async def change_and_guess(number: int) -> int:
        await rename(client, alice, email=f"alice{number}@example.test")
        return (await guess_by_deletion(client, alice)).status

    seen = Counter(await asyncio.gather(*(change_and_guess(number) for number in range(60))))
    assert seen == {401: 5, 429: 55}
    assert len(hashed) == 5


async def test_deletion_and_login_share_the_limit_of_the_account(
    proxied: Client, alice: str
) -> None:
    for host in range(10):
        ip = f"203.0.113.{host}"
        guesses = [login(proxied, "alice", ip=ip) for _ in range(3)]
        guesses += [guess_by_deletion(proxied, alice, ip=ip) for _ in range(3)]
        assert await statuses(*guesses) == {401: 5, 429: 1}
        if host == 5:
            await rename(proxied, alice, email="alice@elsewhere.test")
            await rename(proxied, alice, email="alice@example.test", username="alicia")
    assert (await guess_by_deletion(proxied, alice, ip=HERE)).status == 429
    assert (await login(proxied, "alice", "alice-secret", ip=HERE)).status == 429


async def test_email_change_keeps_the_count_of_the_account(client: Client, alice: str) -> None:
    assert await statuses(*(login(client, "alice") for _ in range(6))) == {401: 5, 429: 1}
    await rename(client, alice, email="alicia@example.test")
    assert (await login(client, "alicia", "alice-secret")).status == 429


async def test_failures_of_an_unknown_email_do_not_lock_its_later_account(
    proxied: Client,
) -> None:
    for host in range(10):
        guesses = (login(proxied, "jake", ip=f"203.0.113.{host}") for _ in range(5))
        assert await statuses(*guesses) == {401: 5}
    assert (await login(proxied, "jake", ip=HERE)).status == 429
    await proxied.register("jake")
    assert (await login(proxied, "jake", "jake-secret", ip=HERE)).status == 200
    guesses = (login(proxied, "jake", ip=ELSEWHERE) for _ in range(20))
    assert await statuses(*guesses) == {401: 5, 429: 15}


async def test_former_email_is_counted_separately_from_its_account(
    client: Client, alice: str
) -> None:
    await rename(client, alice, email="alicia@example.test")
    assert await statuses(*(login(client, "alice") for _ in range(6))) == {401: 5, 429: 1}
    assert (await login(client, "alicia", "alice-secret")).status == 200


async def commit_while_waiting(
    db: asyncpg.Connection, request: Any, change: str, *arguments: str
) -> Response:
    """Return the response to a login that waits for its counters while ``change`` is committed."""
    async with db.transaction():
        await db.execute("lock table throttle in exclusive mode")
        waiting = asyncio.create_task(request)
        await until_blocked(db, 1)
        await db.execute(change, *arguments)
    response: Response = await waiting
    return response


EMAIL_CHANGE = "update users set email = $1, email_key = $1 where username = 'alice'"


async def test_login_verifies_only_the_account_that_was_counted(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    """The email is unknown when the attempt is counted. Then it becomes Alice's."""
    request = login(client, "nobody", "alice-secret")
    response = await commit_while_waiting(db, request, EMAIL_CHANGE, "nobody@example.test")
    assert response.status == 401
    assert (await login(client, "nobody", "alice-secret")).status == 200


async def test_failure_is_logged_for_the_account_that_was_counted(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    """The email is Alice's when the attempt is counted. Then she changes it."""
    await commit_while_waiting(db, login(client, "alice"), EMAIL_CHANGE, "alicia@example.test")
    events = (await client.get("/api/user/events", token=alice)).body["events"]
    assert [event["kind"] for event in events] == ["sign_in_failed", "registered"]


async def test_login_verifies_the_password_that_is_set_while_it_waits(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    other = await client.register("bob", password="another secret")
    copy = (
        "update users set password_version = password_version + 1, password_hash ="
        " (select password_hash from users where username = 'bob') where username = $1"
    )
    response = await commit_while_waiting(
        db, login(client, "alice", "another secret"), copy, "alice"
    )
    assert response.status == 200
    assert await client.is_authenticated(other)


async def test_lockout_email_is_sent_once_an_hour_across_email_changes(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await without_delivery(make_client)
    token = await client.register("alice")
    for number in range(3):
        ip = f"203.0.113.{number}"
        guesses = (guess_by_deletion(client, token, ip=ip) for _ in range(6))
        assert await statuses(*guesses) == {401: 5, 429: 1}
        await rename(client, token, email=f"alice{number}@example.test")
    assert await queued(db) == {"alice@example.test": 1}


@pytest.mark.parametrize("name", ["alice", "nobody"])
async def test_known_and_unknown_emails_leave_the_same_counters(
    client: Client, alice: str, db: asyncpg.Connection, name: str
) -> None:
    await db.execute("delete from throttle")
    await db.execute("delete from known_ips")
    assert await statuses(*(login(client, name) for _ in range(6))) == {401: 5, 429: 1}
    rows = await db.fetch(
        "select hits, in_flight, round(extract(epoch from ends_at - now()) / 60) as minutes"
        " from throttle order by hits, minutes"
    )
    assert [tuple(map(int, row)) for row in rows] == [
        (1, 0, 60),
        (5, 0, 15),
        (5, 0, 15),
        (5, 0, 60),
    ]
