"""Limits on guesses, exact however many come at once."""

from collections import Counter
from typing import Any

import asyncpg
import pytest

from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.throttling import login_attempts
from service.settings.rate_limit import Limit
from service.settings.settings import Settings
from tests.accounts.logins import (
    ELSEWHERE,
    HERE,
    LOCKED,
    WRONG,
    count_hashes,
    end_windows,
    login,
    statuses,
)
from tests.conftest import Client, MakeClient


async def test_of_200_simultaneous_guesses_five_are_looked_at(
    client: Client, alice: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = count_hashes(client, monkeypatch)
    guesses = (login(client, "alice") for _ in range(200))
    assert await statuses(*guesses) == {401: 5, 429: 195}
    assert len(hashed) == 5
    rows = await db.fetch("select hits, in_flight from throttle order by hits desc")
    # Of the account at this address and of the address; alice registered here, so that the whole
    # account is not counted. The others are the registration's, and of the mail about the lockout.
    assert [tuple(row) for row in rows] == [(5, 0), (5, 0), (1, 0), (1, 0)]


async def test_a_stolen_token_is_no_place_to_guess_the_password(
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
    # The owner sees which session it was tried in.
    assert len({event["session_id"] for event in events}) == 1


async def test_two_processes_count_together(make_client: MakeClient) -> None:
    clients = [await make_client(), await make_client()]
    await clients[0].register("alice")
    guesses = (login(clients[i % 2], "alice") for i in range(200))
    assert await statuses(*guesses) == {401: 5, 429: 195}


async def test_guesses_from_many_addresses_at_once_meet_the_accounts_limit(
    proxied: Client, alice: str
) -> None:
    guesses = (login(proxied, "alice", address=f"203.0.113.{i}") for i in range(200))
    assert await statuses(*guesses) == {401: 50, 429: 150}


async def test_guesses_at_many_accounts_at_once_meet_the_addresss_limit(proxied: Client) -> None:
    guesses = (login(proxied, f"user{i}") for i in range(200))
    assert await statuses(*guesses) == {401: 50, 429: 150}


async def test_the_right_password_among_guesses_gives_no_more_than_a_second_window(
    client: Client, alice: str
) -> None:
    guesses = [login(client, "alice") for _ in range(199)]
    guesses.insert(2, login(client, "alice", "alice-secret"))
    seen = await statuses(*guesses)
    assert seen[200] <= 1
    # Up to four failures before the right one are forgotten with it, and five follow.
    assert 5 <= seen[401] <= 5 + 4 * seen[200]
    assert sum(seen.values()) == 200 and seen.keys() <= {200, 401, 429}


async def test_right_passwords_at_once_wait_for_each_other_and_all_get_in(
    make_client: MakeClient,
) -> None:
    clients = [await make_client(), await make_client()]
    await clients[0].register("alice")
    logins = (login(clients[i % 2], "alice", "alice-secret") for i in range(60))
    assert await statuses(*logins) == {200: 60}


async def test_crossing_logins_never_block_each_other(make_client: MakeClient) -> None:
    proxied = await make_client(trusted_proxies=1, password_queue_size=300)
    names = [f"user{i}" for i in range(6)]
    for name in names:
        await proxied.register(name)
    logins = [
        login(
            proxied,
            names[i % 6],
            f"{names[i % 6]}-secret" if i % 3 else "wrong",
            address=f"203.0.113.{i % 7}",
        )
        for i in range(300)
    ]
    seen = await statuses(*logins)
    assert seen.keys() <= {200, 401, 429}, seen


async def test_a_refusal_says_when_to_come_back_and_then_it_works_again(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await statuses(*(login(client, "alice") for _ in range(5)))
    await db.execute("update throttle set ends_at = now() + interval '200.5 seconds'")
    refused = await login(client, "alice", "alice-secret")
    assert (refused.status, refused.body) == (429, LOCKED)
    assert refused.headers["Retry-After"] in ("200", "201")
    await end_windows(db)
    assert (await login(client, "alice")).status == 401
    assert (await login(client, "alice", "alice-secret")).status == 200


async def test_a_window_lasts_from_its_first_attempt(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await login(client, "alice")
    first = await db.fetch("select key, ends_at from throttle order by key")
    await login(client, "alice")
    assert await db.fetch("select key, ends_at from throttle order by key") == first
    minutes = await db.fetch("select round(extract(epoch from ends_at - now()) / 60) from throttle")
    assert sorted(int(row[0]) for row in minutes) == [15, 15, 60]  # The last: the registration's.


@pytest.mark.parametrize("name", ["alice", "nobody"])
async def test_a_lockout_is_logged_once_whoever_is_tried(
    client: Client, alice: str, db: asyncpg.Connection, name: str
) -> None:
    assert await statuses(*(login(client, name) for _ in range(20))) == {401: 5, 429: 15}
    rows = await db.fetch(
        "select kind, user_id is not null as known, count(*) from events"
        " where kind <> 'registered' group by kind, known order by kind"
    )
    known = name == "alice"
    assert [tuple(row) for row in rows] == [("sign_in_failed", known, 5), ("throttled", known, 1)]


async def test_a_password_that_could_not_be_looked_at_in_time_is_not_looked_at(
    client: Client, alice: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as under way for two minutes alone: later it would be a free guess."""
    await db.execute("delete from throttle")
    monkeypatch.setattr(login_attempts, "MAX_HASH_SECONDS", login_attempts.LEASE)
    assert await statuses(*(login(client, "alice", "alice-secret") for _ in range(5))) == {503: 5}
    rows = await db.fetch("select hits, in_flight from throttle")
    assert {tuple(row) for row in rows} == {(0, 5)}


async def test_attempt_counts_as_in_flight_for_the_lease(
    client: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = "select count(*) from throttle where in_flight_until > now() + interval '1 hour'"
    found = []

    async def verify(*_: Any, **__: Any) -> bool:
        found.append(await db.fetchval(far))
        return False

    monkeypatch.setattr(client.http.app[PASSWORDS], "verify", verify)
    for lease in (7200.0, 120.0):
        monkeypatch.setattr(login_attempts, "LEASE", lease)
        await login(client, "nobody")
        await db.execute("update throttle set in_flight_until = '-infinity'")
    assert found == [3, 0]


async def test_what_a_taken_name_tells_is_limited_like_registrations(
    make_client: MakeClient,
) -> None:
    client = await make_client(registration_limit=Limit(3, 60))
    token = await client.register("alice")
    unchanged = {"bio": "free", "username": "ALICE", "email": "alice@example.test"}
    for _ in range(5):
        assert (await client.put("/api/user", {"user": unchanged}, token=token)).status == 200
    for name, status in (("bobby", 200), ("alice", 200), ("carol", 429)):
        answer = await client.put("/api/user", {"user": {"username": name}}, token=token)
        assert answer.status == status
    assert int(answer.headers["Retry-After"]) <= 60


def test_a_whole_test_suite_from_one_address_meets_no_limit_of_its_own() -> None:
    settings = Settings()
    assert settings.login_limits == (Limit(5, 900), Limit(50, 900), Limit(50, 3600))
    assert settings.registration_limit == Limit(10_000, 3600)
    assert settings.refresh_limit == Limit(100_000, 3600)


async def test_unknown_accounts_are_refused_like_known_ones(proxied: Client, alice: str) -> None:
    known = [await login(proxied, "alice", address=HERE) for _ in range(6)]
    unknown = [await login(proxied, "nobody", address=ELSEWHERE) for _ in range(6)]
    assert [a.status for a in known] == [401] * 5 + [429]
    for mine, theirs in zip(known, unknown, strict=True):
        assert (mine.status, mine.body) == (theirs.status, theirs.body)
        assert list(mine.headers) == list(theirs.headers)


async def test_an_address_is_counted_however_the_email_is_written(client: Client) -> None:
    for email in ("a@x.test", "A@x.test", "a@X.TEST", "\uff41@x.test", "a@x.test"):
        user = {"email": email, "password": "wrong"}
        assert (await client.post("/api/users/login", {"user": user})).status == 401
    answer = await client.post("/api/users/login", {"user": {"email": "a@x.test", "password": "b"}})
    assert answer.status == 429


async def test_entries_left_of_the_proxys_change_nothing(proxied: Client, alice: str) -> None:
    guesses = (login(proxied, "alice", address=f"203.0.113.{i}, {HERE}") for i in range(20))
    assert await statuses(*guesses) == {401: 5, 429: 15}


async def test_without_a_proxy_the_header_changes_nothing(client: Client, alice: str) -> None:
    guesses = (login(client, "alice", address=f"203.0.113.{i}") for i in range(20))
    assert await statuses(*guesses) == {401: 5, 429: 15}


async def test_good_logins_of_ones_own_do_not_reset_an_address(proxied: Client, bob: str) -> None:
    seen: Counter[int] = Counter()
    for i in range(60):
        seen[(await login(proxied, f"user{i}")).status] += 1
        if i % 5 == 0 and seen[401] < 50:
            assert (await login(proxied, "bob", "bob-secret")).status == 200
    assert seen == {401: 50, 429: 10}
    assert (await login(proxied, "bob", "bob-secret")).status == 429


async def test_a_good_login_forgets_the_accounts_failures_at_that_address_alone(
    proxied: Client, alice: str
) -> None:
    for address in (HERE, ELSEWHERE):
        await statuses(*(login(proxied, "alice", address=address) for _ in range(4)))
    assert (await login(proxied, "alice", "alice-secret", address=HERE)).status == 200
    assert await statuses(*(login(proxied, "alice", address=HERE) for _ in range(9))) == {
        401: 5,
        429: 4,
    }
    assert await statuses(*(login(proxied, "alice", address=ELSEWHERE) for _ in range(9))) == {
        401: 1,
        429: 8,
    }


async def test_an_ipv6_client_is_its_network(proxied: Client, alice: str) -> None:
    guesses = (login(proxied, "alice", address=f"2001:db8:0:1::{host}") for host in range(1, 9))
    assert await statuses(*guesses) == {401: 5, 429: 3}
    assert (await login(proxied, "alice", address="2001:db8:0:2::1")).status == 401


async def test_refreshes_are_limited_by_address_and_good_sessions_live_on(
    make_client: MakeClient,
) -> None:
    client = await make_client(refresh_limit=Limit(3, 60))
    device = await client.open_account("alice")
    answers = [await client.refresh("unknown") for _ in range(3)]
    assert [answer.status for answer in answers] == [401] * 3
    refused = await client.refresh(device.refresh)
    assert (refused.status, refused.body["code"]) == (429, "too_many_attempts")
    assert int(refused.headers["Retry-After"]) in range(1, 61)
    assert await client.is_authenticated(device.access)
