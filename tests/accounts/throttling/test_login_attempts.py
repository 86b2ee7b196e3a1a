"""Failed logins are counted exactly, however many attempts are concurrent."""

from collections import Counter

import asyncpg
import pytest

from service.settings.rate_limit import NO_LIMIT, Limit
from service.settings.settings import Settings
from tests.accounts.logins import (
    ELSEWHERE,
    HERE,
    LOCKED,
    WRONG,
    count_hashes,
    counters,
    end_windows,
    login,
    statuses,
)
from tests.conftest import Client, MakeClient


async def test_concurrent_guesses_verify_at_most_the_limit(
    client: Client, alice: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = count_hashes(client, monkeypatch)
    guesses = (login(client, "alice") for _ in range(200))
    assert await statuses(*guesses) == {401: 5, 429: 195}
    assert len(hashed) == 5
    rows = await db.fetch("select hits, in_flight from throttle order by hits desc")
    # The counters of the account at this IP address, of the IP address, of the registration, of the
    # verification mail and of the lockout email. Alice registered here, so the whole account is not
    # counted.
    assert [tuple(row) for row in rows] == [(5, 0), (5, 0), (1, 0), (1, 0), (1, 0)]


async def test_deletion_counts_wrong_passwords_like_a_login(
    client: Client, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = count_hashes(client, monkeypatch)
    deletions = (
        client.delete("/api/user", {"user": {"password": WRONG}}, token=alice) for _ in range(20)
    )
    assert await statuses(*deletions) == {401: 5, 429: 15}
    assert len(hashed) == 5
    assert (await login(client, "alice", "alice-secret")).status == 429
    events = (await client.get("/api/user/events", token=alice)).body["events"]
    kinds = sorted(event["kind"] for event in events)
    assert kinds == ["registered", *["sign_in_failed"] * 5, "throttled"]
    # The events name the session of the guesses.
    assert len({event["session_id"] for event in events}) == 1


async def test_two_processes_share_the_limits(make_client: MakeClient) -> None:
    clients = [await make_client(), await make_client()]
    await clients[0].register("alice")
    guesses = (login(clients[i % 2], "alice") for i in range(200))
    assert await statuses(*guesses) == {401: 5, 429: 195}


async def test_concurrent_guesses_from_many_ips_reach_the_limit_of_the_account(
    proxied: Client, alice: str
) -> None:
    guesses = (login(proxied, "alice", ip=f"203.0.113.{i}") for i in range(200))
    assert await statuses(*guesses) == {401: 50, 429: 150}


async def test_concurrent_guesses_at_many_accounts_reach_the_limit_of_the_ip(
    proxied: Client,
) -> None:
    guesses = (login(proxied, f"user{i}") for i in range(200))
    assert await statuses(*guesses) == {401: 50, 429: 150}


async def test_correct_password_among_guesses_resets_the_pair_at_most_once(
    client: Client, alice: str
) -> None:
    guesses = [login(client, "alice") for _ in range(199)]
    guesses.insert(2, login(client, "alice", "alice-secret"))
    seen = await statuses(*guesses)
    assert seen[200] <= 1
    # The correct login resets up to four failures before it, and five more follow.
    assert 5 <= seen[401] <= 5 + 4 * seen[200]
    assert sum(seen.values()) == 200 and seen.keys() <= {200, 401, 429}


async def test_concurrent_logins_with_common_keys_do_not_deadlock(make_client: MakeClient) -> None:
    proxied = await make_client(trusted_proxies=1, password_queue_size=300)
    names = [f"user{i}" for i in range(6)]
    for name in names:
        await proxied.register(name)
    logins = [
        login(
            proxied,
            names[i % 6],
            f"{names[i % 6]}-secret" if i % 3 else "wrong",
            ip=f"203.0.113.{i % 7}",
        )
        for i in range(300)
    ]
    seen = await statuses(*logins)
    assert seen.keys() <= {200, 401, 429}, seen


async def test_rejected_login_works_again_after_retry_after(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await statuses(*(login(client, "alice") for _ in range(5)))
    await db.execute("update throttle set ends_at = now() + interval '200.5 seconds'")
    rejected = await login(client, "alice", "alice-secret")
    assert (rejected.status, rejected.body) == (429, LOCKED)
    assert rejected.headers["Retry-After"] in ("200", "201")
    await end_windows(db)
    assert (await login(client, "alice")).status == 401
    assert (await login(client, "alice", "alice-secret")).status == 200


async def test_window_begins_with_its_first_attempt(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await login(client, "alice")
    first = await db.fetch("select key, ends_at from throttle order by key")
    await login(client, "alice")
    assert await db.fetch("select key, ends_at from throttle order by key") == first
    minutes = await db.fetch("select round(extract(epoch from ends_at - now()) / 60) from throttle")
    # 60: the registration and the verification mail.
    assert sorted(int(row[0]) for row in minutes) == [15, 15, 60, 60]


@pytest.mark.parametrize("name", ["alice", "nobody"])
async def test_lockout_is_logged_once_for_known_and_unknown_emails(
    client: Client, alice: str, db: asyncpg.Connection, name: str
) -> None:
    assert await statuses(*(login(client, name) for _ in range(20))) == {401: 5, 429: 15}
    rows = await db.fetch(
        "select kind, user_id is not null as known, count(*) from events"
        " where kind <> 'registered' group by kind, known order by kind"
    )
    known = name == "alice"
    assert [tuple(row) for row in rows] == [("sign_in_failed", known, 5), ("throttled", known, 1)]


async def test_unknown_email_gets_the_responses_of_a_known_one(proxied: Client, alice: str) -> None:
    known = [await login(proxied, "alice", ip=HERE) for _ in range(6)]
    unknown = [await login(proxied, "nobody", ip=ELSEWHERE) for _ in range(6)]
    assert [a.status for a in known] == [401] * 5 + [429]
    for of_known, of_unknown in zip(known, unknown, strict=True):
        assert (of_known.status, of_known.body) == (of_unknown.status, of_unknown.body)
        assert list(of_known.headers) == list(of_unknown.headers)


async def test_spellings_of_one_email_share_a_count(client: Client) -> None:
    for email in ("a@x.test", "A@x.test", "a@X.TEST", "\uff41@x.test", "a@x.test"):
        user = {"email": email, "password": "wrong"}
        assert (await client.post("/api/users/login", {"user": user})).status == 401
    response = await client.post(
        "/api/users/login", {"user": {"email": "a@x.test", "password": "b"}}
    )
    assert response.status == 429


async def test_forged_forwarded_entries_do_not_change_the_ip(proxied: Client, alice: str) -> None:
    guesses = (login(proxied, "alice", ip=f"203.0.113.{i}, {HERE}") for i in range(20))
    assert await statuses(*guesses) == {401: 5, 429: 15}


async def test_forwarded_header_is_ignored_without_a_proxy(client: Client, alice: str) -> None:
    guesses = (login(client, "alice", ip=f"203.0.113.{i}") for i in range(20))
    assert await statuses(*guesses) == {401: 5, 429: 15}


async def test_correct_login_does_not_reset_the_ip(proxied: Client, bob: str) -> None:
    seen: Counter[int] = Counter()
    for i in range(60):
        seen[(await login(proxied, f"user{i}")).status] += 1
        if i % 5 == 0 and seen[401] < 50:
            assert (await login(proxied, "bob", "bob-secret")).status == 200
    assert seen == {401: 50, 429: 10}
    assert (await login(proxied, "bob", "bob-secret")).status == 429


async def test_correct_login_resets_the_account_only_at_its_ip(proxied: Client, alice: str) -> None:
    for ip in (HERE, ELSEWHERE):
        await statuses(*(login(proxied, "alice", ip=ip) for _ in range(4)))
    assert (await login(proxied, "alice", "alice-secret", ip=HERE)).status == 200
    assert await statuses(*(login(proxied, "alice", ip=HERE) for _ in range(9))) == {
        401: 5,
        429: 4,
    }
    assert await statuses(*(login(proxied, "alice", ip=ELSEWHERE) for _ in range(9))) == {
        401: 1,
        429: 8,
    }


async def test_each_limit_can_be_disabled(make_client: MakeClient, db: asyncpg.Connection) -> None:
    off = await make_client(login_limits=(NO_LIMIT, NO_LIMIT, NO_LIMIT))
    assert await statuses(*(login(off, "alice") for _ in range(60))) == {401: 60}
    assert await counters(db) == []
    ip_only = await make_client(login_limits=(NO_LIMIT, Limit(7, 60), NO_LIMIT))
    assert await statuses(*(login(ip_only, "alice") for _ in range(9))) == {401: 7, 429: 2}
    assert await counters(db) == [(7, 0)]


async def test_concurrent_logins_need_only_one_connection(
    make_client: MakeClient,
) -> None:
    client = await make_client(database_pool_size=1)
    await client.register("alice")
    assert await statuses(*(login(client, "alice") for _ in range(20))) == {401: 5, 429: 15}


def test_default_limits_are_those_of_the_documents() -> None:
    assert Settings().login_limits == (Limit(5, 900), Limit(50, 900), Limit(50, 3600))
