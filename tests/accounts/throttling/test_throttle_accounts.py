"""Failures and password changes count by user id.

No change of email, username or spelling begins a new count.
"""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from service.accounts.passwords.hasher import PASSWORDS
from service.settings.rate_limit import Limit
from tests.accounts.logins import ELSEWHERE, HERE, WRONG, count_hashes, login, statuses
from tests.accounts.test_emails import silent, told
from tests.conftest import Answer, Client, MakeClient, until_blocked


async def rename(client: Client, token: str, **fields: str) -> None:
    assert (await client.put("/api/user", {"user": fields}, token=token)).status == 200


async def guess_by_deletion(client: Client, token: str, *, address: str = HERE) -> Answer:
    body, headers = {"user": {"password": WRONG}}, {"X-Forwarded-For": address}
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


async def test_guesses_at_deletion_and_at_login_share_the_account_limit(
    proxied: Client, alice: str
) -> None:
    for host in range(10):
        address = f"203.0.113.{host}"
        guesses = [login(proxied, "alice", address=address) for _ in range(3)]
        guesses += [guess_by_deletion(proxied, alice, address=address) for _ in range(3)]
        assert await statuses(*guesses) == {401: 5, 429: 1}
        if host == 5:
            await rename(proxied, alice, email="alice@elsewhere.test")
            await rename(proxied, alice, email="alice@example.test", username="alicia")
    assert (await guess_by_deletion(proxied, alice, address=HERE)).status == 429
    assert (await login(proxied, "alice", "alice-secret", address=HERE)).status == 429


async def test_a_changed_email_keeps_the_count_of_its_account(client: Client, alice: str) -> None:
    assert await statuses(*(login(client, "alice") for _ in range(6))) == {401: 5, 429: 1}
    await rename(client, alice, email="alicia@example.test")
    assert (await login(client, "alicia", "alice-secret")).status == 429


async def test_failures_of_an_unknown_email_do_not_lock_the_account_that_registers_it(
    proxied: Client,
) -> None:
    for host in range(10):
        guesses = (login(proxied, "jake", address=f"203.0.113.{host}") for _ in range(5))
        assert await statuses(*guesses) == {401: 5}
    assert (await login(proxied, "jake", address=HERE)).status == 429
    await proxied.register("jake")
    assert (await login(proxied, "jake", "jake-secret", address=HERE)).status == 200
    guesses = (login(proxied, "jake", address=ELSEWHERE) for _ in range(20))
    assert await statuses(*guesses) == {401: 5, 429: 15}


async def test_an_email_that_an_account_gave_up_is_counted_apart_from_it(
    client: Client, alice: str
) -> None:
    await rename(client, alice, email="alicia@example.test")
    assert await statuses(*(login(client, "alice") for _ in range(6))) == {401: 5, 429: 1}
    assert (await login(client, "alicia", "alice-secret")).status == 200


async def meanwhile(db: asyncpg.Connection, request: Any, change: str, *arguments: str) -> Answer:
    """The response to a login that waited for its counters while ``change`` was committed."""
    async with db.transaction():
        await db.execute("lock table throttle in exclusive mode")
        waiting = asyncio.create_task(request)
        await until_blocked(db, 1)
        await db.execute(change, *arguments)
    answer: Answer = await waiting
    return answer


EMAIL_CHANGE = "update users set email = $1, email_key = $1 where username = 'alice'"


async def test_login_verifies_no_account_but_the_one_that_was_counted(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    """An unknown email that becomes Alice's after the attempt was counted is still unknown."""
    request = login(client, "nobody", "alice-secret")
    answer = await meanwhile(db, request, EMAIL_CHANGE, "nobody@example.test")
    assert answer.status == 401
    assert (await login(client, "nobody", "alice-secret")).status == 200


async def test_an_email_change_during_a_login_moves_no_failure_to_another_account(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    """The email is Alice's when the attempt is counted: the failure is in her log."""
    await meanwhile(db, login(client, "alice"), EMAIL_CHANGE, "alicia@example.test")
    events = (await client.get("/api/user/events", token=alice)).body["events"]
    assert [event["kind"] for event in events] == ["sign_in_failed", "registered"]


async def test_a_password_that_changes_while_a_login_waits_signs_in(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    other = await client.register("bob", password="another secret")
    copy = (
        "update users set password_version = password_version + 1, password_hash ="
        " (select password_hash from users where username = 'bob') where username = $1"
    )
    answer = await meanwhile(db, login(client, "alice", "another secret"), copy, "alice")
    assert answer.status == 200
    assert await client.is_authenticated(other)


async def test_the_owner_is_told_of_lockouts_once_an_hour_however_often_the_email_changes(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await silent(make_client)
    token = await client.register("alice")
    for number in range(3):
        address = f"203.0.113.{number}"
        guesses = (guess_by_deletion(client, token, address=address) for _ in range(6))
        assert await statuses(*guesses) == {401: 5, 429: 1}
        await rename(client, token, email=f"alice{number}@example.test")
    assert await told(db) == {"alice@example.test": 1}


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


async def test_password_changes_past_the_limit_of_a_user_are_rejected_before_hashing(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, db: asyncpg.Connection
) -> None:
    settings = {"password_change_limit": Limit(3, 60), "trusted_proxies": 1}
    clients = [await make_client(**settings), await make_client(**settings)]
    token = await clients[0].register("alice")
    bob = await clients[0].register("bob")
    hashed: list[str] = []
    for client in clients:
        hasher = client.http.app[PASSWORDS]

        async def noted(*arguments: Any, hash_: Any = hasher.hash) -> str:
            hashed.append(arguments[0])
            return str(await hash_(*arguments))

        monkeypatch.setattr(hasher, "hash", noted)

    async def change(number: int, token: str, **fields: str) -> Any:
        headers = {"X-Forwarded-For": f"203.0.113.{number}"}
        body = {"user": {"password": "another one", **fields}}
        return await clients[number % 2].put("/api/user", body, token=token, headers=headers)

    # The session that asks stays open, so every change that is counted succeeds. A new IP address,
    # process or name of the account is no new counter.
    assert await statuses(*(change(n, token) for n in range(20))) == {200: 3, 429: 17}
    assert len(hashed) == 3
    rejected = await change(20, token, username="alicia", email="alicia@example.test")
    assert rejected.body == {
        "errors": {"password": ["too many attempts"]},
        "code": "too_many_attempts",
    }
    assert 1 <= int(rejected.headers["Retry-After"]) <= 60
    renamed = {"user": {"username": "alicia", "email": "alicia@example.test"}}
    assert (await clients[0].put("/api/user", renamed, token=token)).status == 200
    assert (await change(21, token)).status == 429
    assert (await change(22, bob)).status == 200
    await db.execute("update throttle set ends_at = now()")
    assert (await change(23, token)).status == 200
