"""A response that reveals a taken email or username has a low limit of its own per IP address."""

import asyncio
from collections import Counter

import asyncpg
import pytest

from service.accounts.throttling.throttle import SITE_FACTOR
from service.settings.rate_limit import NO_LIMIT, Limit
from service.settings.settings import Settings
from tests.accounts.logins import ELSEWHERE, HERE, end_windows, statuses
from tests.conftest import Client, MakeClient, Response
from tests.responses import assert_error

MAX_COUNT = 10
REJECTED = {"errors": {"registration": ["too many attempts"]}, "code": "too_many_attempts"}
TAKEN = {"username": "alice", "email": "alice@example.test"}


@pytest.fixture
async def limited(make_client: MakeClient) -> Client:
    """Return a client behind one proxy, with a low limit, where Alice has an account."""
    client = await make_client(trusted_proxies=1, conflict_limit=Limit(MAX_COUNT, 60))
    await client.register("alice")
    return client


async def register(client: Client, username: str, email: str, ip: str = HERE) -> Response:
    user = {"username": username, "email": email, "password": "long enough"}
    return await client.post("/api/users", {"user": user}, headers={"X-Forwarded-For": ip})


async def change(client: Client, token: str, ip: str = HERE, **fields: str) -> Response:
    headers = {"X-Forwarded-For": ip}
    return await client.put("/api/user", {"user": fields}, token=token, headers=headers)


async def exhaust(client: Client, ip: str = HERE) -> None:
    conflicts = (register(client, "alice", f"x{i}@x.test", ip) for i in range(MAX_COUNT))
    assert await statuses(*conflicts) == {409: MAX_COUNT}


async def test_concurrent_registrations_reveal_exactly_the_limit(limited: Client) -> None:
    conflicts = (register(limited, "alice", f"x{i}@x.test") for i in range(200))
    assert await statuses(*conflicts) == {409: MAX_COUNT, 429: 200 - MAX_COUNT}


async def test_two_processes_share_the_limit_of_conflicts(make_client: MakeClient) -> None:
    clients = [await make_client(conflict_limit=Limit(MAX_COUNT, 60)) for _ in range(2)]
    await clients[0].register("alice")
    conflicts = (register(clients[i % 2], f"user{i}", TAKEN["email"]) for i in range(60))
    assert await statuses(*conflicts) == {409: MAX_COUNT, 429: 60 - MAX_COUNT}


async def test_conflict_at_the_constraint_counts(limited: Client, db: asyncpg.Connection) -> None:
    """All requests find the email free before one of them inserts it."""
    races = (register(limited, f"user{i}", "jake@example.test") for i in range(60))
    assert await statuses(*races) == {200: 1, 409: MAX_COUNT, 429: 59 - MAX_COUNT}
    assert await db.fetchval("select count(*) from users") == 2


async def test_registration_past_the_limit_does_not_reveal_a_conflict(
    limited: Client, db: asyncpg.Connection
) -> None:
    await exhaust(limited)
    for username, email in (
        ("alice", "free@example.test"),
        ("free", "alice@example.test"),
        ("alice", "alice@example.test"),
    ):
        response = await register(limited, username, email)
        assert (response.status, response.body) == (429, REJECTED)
        assert int(response.headers["Retry-After"]) in range(1, 61)
    assert (await register(limited, "alice", "a@x.test", ELSEWHERE)).status == 409
    await end_windows(db)
    assert (await register(limited, "alice", "a@x.test")).status == 409


async def test_registration_without_a_conflict_succeeds_past_the_limit(limited: Client) -> None:
    await exhaust(limited)
    assert (await register(limited, "jake", "jake@example.test")).status == 200


async def test_conflict_limit_and_registration_limit_have_the_same_response(
    make_client: MakeClient,
) -> None:
    client = await make_client(registration_limit=Limit(1, 60), conflict_limit=Limit(1, 60))
    await client.register("alice")
    assert (await register(client, "jake", "jake@example.test")).body == REJECTED


async def test_changes_and_registrations_share_the_limit_of_conflicts(limited: Client) -> None:
    bob = await limited.register("bob")
    for number in range(MAX_COUNT):
        if number % 2:
            response = await change(limited, bob, **TAKEN)
        else:
            response = await register(limited, "alice", "a@x.test")
        assert response.status == 409
    assert (await register(limited, "alice", "a@x.test")).status == 429
    assert (await change(limited, bob, username="alice")).status == 429


async def test_change_past_the_limit_does_not_reveal_a_conflict(
    limited: Client,
) -> None:
    """A change can be undone without a trace: its success would reveal as much as a conflict."""
    bob = await limited.register("bob")
    await exhaust(limited)
    for fields in (TAKEN, {"email": "free@x.test"}, {"username": "free"}, {"username": "alice"}):
        response = await change(limited, bob, **fields)
        assert (response.status, response.body) == (429, REJECTED)
        assert int(response.headers["Retry-After"]) in range(1, 61)
    same = {"bio": "new", "username": "BOB", "email": "bob@example.test"}
    assert (await change(limited, bob, **same)).status == 200
    assert (await change(limited, bob, ELSEWHERE, email="free@x.test")).status == 200


async def test_changes_without_a_conflict_do_not_count(limited: Client) -> None:
    bob = await limited.register("bob")
    for number in range(2 * MAX_COUNT):
        assert (await change(limited, bob, email=f"bob{number}@example.test")).status == 200
    await exhaust(limited)


async def test_concurrent_changes_reveal_at_most_the_limit(
    limited: Client,
) -> None:
    """Past the limit no email is looked up: free emails are rejected like taken ones."""
    tokens = [await limited.register(f"user{i}") for i in range(60)]
    emails = [TAKEN["email"] if i % 2 else f"free{i}@x.test" for i in range(60)]
    changes = (
        change(limited, token, email=email) for token, email in zip(tokens, emails, strict=True)
    )
    responses = await asyncio.gather(*changes)
    of_taken = Counter(responses[i].status for i in range(1, 60, 2))
    assert of_taken[409] <= MAX_COUNT
    assert of_taken[409] + of_taken[429] == 30
    assert Counter(responses[i].status for i in range(0, 60, 2))[429] > 0


async def test_conflicts_across_a_48_reach_eight_times_the_limit_of_an_ip(
    make_client: MakeClient,
) -> None:
    client = await make_client(trusted_proxies=1, conflict_limit=Limit(2, 60))
    await client.register("alice")
    conflicts = (register(client, "alice", "a@x.test", f"2001:db8:0:{i}::1") for i in range(40))
    assert await statuses(*conflicts) == {409: 2 * SITE_FACTOR, 429: 40 - 2 * SITE_FACTOR}


async def test_conflict_limit_can_be_disabled(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(
        conflict_limit=NO_LIMIT, registration_limit=NO_LIMIT, verification_mail_limit=NO_LIMIT
    )
    bob = await client.register("bob")
    await client.register("alice")
    conflicts = (register(client, "alice", "a@x.test") for _ in range(30))
    assert await statuses(*conflicts) == {409: 30}
    response = await change(client, bob, username="alice")
    assert_error(response, 409, "already_taken", {"username": ["has already been taken"]})
    assert await db.fetchval("select count(*) from throttle") == 0
    assert (await change(client, bob, username="bobby")).status == 200
    # The notice of the changed username is counted, and nothing else.
    assert await db.fetchval("select count(*) from throttle") == 1


def test_default_conflict_limit_allows_a_test_suite_from_one_ip() -> None:
    """The functional suite of this repository causes 383 conflicts without this file."""
    assert Settings().conflict_limit == Limit(500, 3600)
