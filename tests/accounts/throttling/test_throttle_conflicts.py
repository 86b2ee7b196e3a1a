"""What tells that an email or username is taken has a low limit of its own per IP address."""

import asyncio
from collections import Counter

import asyncpg
import pytest

from service.accounts.throttling.throttle import SITE_FACTOR
from service.settings.rate_limit import NO_LIMIT, Limit
from service.settings.settings import Settings
from tests.accounts.logins import ELSEWHERE, HERE, end_windows, statuses
from tests.answers import assert_error
from tests.conftest import Answer, Client, MakeClient

MOST = 10
REFUSED = {"errors": {"registration": ["too many attempts"]}, "code": "too_many_attempts"}
TAKEN = {"username": "alice", "email": "alice@example.test"}


@pytest.fixture
async def limited(make_client: MakeClient) -> Client:
    """A service behind one proxy with a low limit, where Alice has an account."""
    client = await make_client(trusted_proxies=1, conflict_limit=Limit(MOST, 60))
    await client.register("alice")
    return client


async def register(client: Client, username: str, email: str, address: str = HERE) -> Answer:
    user = {"username": username, "email": email, "password": "long enough"}
    return await client.post("/api/users", {"user": user}, headers={"X-Forwarded-For": address})


async def change(client: Client, token: str, address: str = HERE, **fields: str) -> Answer:
    headers = {"X-Forwarded-For": address}
    return await client.put("/api/user", {"user": fields}, token=token, headers=headers)


async def exhaust(client: Client, address: str = HERE) -> None:
    conflicts = (register(client, "alice", f"x{i}@x.test", address) for i in range(MOST))
    assert await statuses(*conflicts) == {409: MOST}


async def test_concurrent_conflicts_are_told_exactly_up_to_the_limit(limited: Client) -> None:
    conflicts = (register(limited, "alice", f"x{i}@x.test") for i in range(200))
    assert await statuses(*conflicts) == {409: MOST, 429: 200 - MOST}


async def test_conflicts_in_two_processes_share_the_limit(make_client: MakeClient) -> None:
    clients = [await make_client(conflict_limit=Limit(MOST, 60)) for _ in range(2)]
    await clients[0].register("alice")
    conflicts = (register(clients[i % 2], f"user{i}", TAKEN["email"]) for i in range(60))
    assert await statuses(*conflicts) == {409: MOST, 429: 60 - MOST}


async def test_registrations_that_meet_at_the_constraint_count_as_conflicts(
    limited: Client, db: asyncpg.Connection
) -> None:
    """All find the email free before one of them is inserted."""
    races = (register(limited, f"user{i}", "jake@example.test") for i in range(60))
    assert await statuses(*races) == {200: 1, 409: MOST, 429: 59 - MOST}
    assert await db.fetchval("select count(*) from users") == 2


async def test_a_conflict_past_the_limit_does_not_tell_what_is_taken(
    limited: Client, db: asyncpg.Connection
) -> None:
    await exhaust(limited)
    for username, email in (
        ("alice", "free@example.test"),
        ("free", "alice@example.test"),
        ("alice", "alice@example.test"),
    ):
        answer = await register(limited, username, email)
        assert (answer.status, answer.body) == (429, REFUSED)
        assert int(answer.headers["Retry-After"]) in range(1, 61)
    assert (await register(limited, "alice", "a@x.test", ELSEWHERE)).status == 409
    await end_windows(db)
    assert (await register(limited, "alice", "a@x.test")).status == 409


async def test_a_registration_without_a_conflict_works_past_the_limit(limited: Client) -> None:
    await exhaust(limited)
    assert (await register(limited, "jake", "jake@example.test")).status == 200


async def test_a_conflict_and_a_registration_past_their_limits_are_refused_alike(
    make_client: MakeClient,
) -> None:
    client = await make_client(registration_limit=Limit(1, 60), conflict_limit=Limit(1, 60))
    await client.register("alice")
    assert (await register(client, "jake", "jake@example.test")).body == REFUSED


async def test_conflicts_of_changes_and_of_registrations_share_the_limit(limited: Client) -> None:
    bob = await limited.register("bob")
    for number in range(MOST):
        if number % 2:
            answer = await change(limited, bob, **TAKEN)
        else:
            answer = await register(limited, "alice", "a@x.test")
        assert answer.status == 409
    assert (await register(limited, "alice", "a@x.test")).status == 429
    assert (await change(limited, bob, username="alice")).status == 429


async def test_past_the_limit_no_change_of_email_or_username_tells_what_is_taken(
    limited: Client,
) -> None:
    """A change to a free email leaves no trace: its success would tell as much as a conflict."""
    bob = await limited.register("bob")
    await exhaust(limited)
    for fields in (TAKEN, {"email": "free@x.test"}, {"username": "free"}, {"username": "alice"}):
        answer = await change(limited, bob, **fields)
        assert (answer.status, answer.body) == (429, REFUSED)
        assert int(answer.headers["Retry-After"]) in range(1, 61)
    same = {"bio": "new", "username": "BOB", "email": "bob@example.test"}
    assert (await change(limited, bob, **same)).status == 200
    assert (await change(limited, bob, ELSEWHERE, email="free@x.test")).status == 200


async def test_changes_without_a_conflict_take_nothing_of_the_limit(limited: Client) -> None:
    bob = await limited.register("bob")
    for number in range(2 * MOST):
        assert (await change(limited, bob, email=f"bob{number}@example.test")).status == 200
    await exhaust(limited)


async def test_concurrent_changes_learn_at_most_the_limit_of_taken_emails(
    limited: Client,
) -> None:
    """Of those past the limit none was looked up: free emails are refused as taken ones are."""
    tokens = [await limited.register(f"user{i}") for i in range(60)]
    emails = [TAKEN["email"] if i % 2 else f"free{i}@x.test" for i in range(60)]
    changes = (
        change(limited, token, email=email) for token, email in zip(tokens, emails, strict=True)
    )
    answers = await asyncio.gather(*changes)
    of_taken = Counter(answers[i].status for i in range(1, 60, 2))
    assert of_taken[409] <= MOST
    assert of_taken[409] + of_taken[429] == 30
    assert Counter(answers[i].status for i in range(0, 60, 2))[429] > 0


async def test_conflicts_spread_over_a_48_meet_a_limit_of_eight_addresses(
    make_client: MakeClient,
) -> None:
    client = await make_client(trusted_proxies=1, conflict_limit=Limit(2, 60))
    await client.register("alice")
    conflicts = (register(client, "alice", "a@x.test", f"2001:db8:0:{i}::1") for i in range(40))
    assert await statuses(*conflicts) == {409: 2 * SITE_FACTOR, 429: 40 - 2 * SITE_FACTOR}


async def test_the_limit_can_be_off(make_client: MakeClient, db: asyncpg.Connection) -> None:
    client = await make_client(conflict_limit=NO_LIMIT, registration_limit=NO_LIMIT)
    bob = await client.register("bob")
    await client.register("alice")
    conflicts = (register(client, "alice", "a@x.test") for _ in range(30))
    assert await statuses(*conflicts) == {409: 30}
    answer = await change(client, bob, username="alice")
    assert_error(answer, 409, "already_taken", {"username": ["has already been taken"]})
    assert (await change(client, bob, username="bobby")).status == 200
    assert await db.fetchval("select count(*) from throttle") == 0


def test_a_whole_test_suite_from_one_address_does_not_meet_the_limit() -> None:
    """The functional suite of this repository causes 383 conflicts, without this file's."""
    assert Settings().conflict_limit == Limit(500, 3600)
