"""The limit on open sessions, also for concurrent logins."""

import asyncio
from collections import Counter

import asyncpg
import pytest

from service.settings.rate_limit import NO_LIMIT
from tests.conftest import Client, Device, MakeClient, Response, until_blocked
from tests.responses import assert_error

OPEN = "select count(*) from sessions where ended_at is null"
ALICE = {"user": {"email": "alice@example.test", "password": "alice-secret"}}
LOGINS = 20
# Without login limits, so that no login waits for another one of the same account.
UNLIMITED = (NO_LIMIT, NO_LIMIT, NO_LIMIT)


async def sign_in(client: Client) -> Response:
    return await client.post("/api/users/login", ALICE)


async def test_every_login_opens_a_session_when_there_is_no_limit(
    client: Client, db: asyncpg.Connection, alice: str
) -> None:
    for _ in range(30):
        await client.sign_in("alice")
    assert await db.fetchval(OPEN) == 31
    assert await client.is_authenticated(alice)


async def test_login_evicts_the_session_with_the_oldest_use_when_the_limit_is_reached(
    make_client: MakeClient,
) -> None:
    client = await make_client(session_limit=2)
    first, second = await client.open_account("alice"), await client.sign_in("alice")
    # The first session is used later than the second one, which is the oldest now.
    refreshed = await client.refresh(first.refresh)
    third = await client.sign_in("alice")
    evicted = await client.get("/api/user", token=second.access)
    assert_error(evicted, 401, "session_evicted", {"token": ["has been revoked"]})
    refused = await client.refresh(second.refresh)
    assert_error(refused, 401, "session_evicted", {"refresh_token": ["has been revoked"]})
    assert await client.is_authenticated(
        refreshed.body["access_token"]
    ) and await client.is_authenticated(third.access)


async def test_login_evicts_several_sessions_when_the_limit_was_lowered(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    before = await make_client()
    devices = [await before.open_account("alice")]
    devices += [await before.sign_in("alice") for _ in range(5)]
    client = await make_client(session_limit=3)
    devices.append(await client.sign_in("alice"))
    alive = [await client.is_authenticated(device.access) for device in devices]
    assert alive == [False] * 4 + [True] * 3


@pytest.mark.parametrize("policy", ["evict-oldest", "deny"])
async def test_limit_counts_only_open_sessions_of_the_same_user(
    make_client: MakeClient, db: asyncpg.Connection, policy: str
) -> None:
    client = await make_client(session_limit=2, session_limit_policy=policy)
    bob = await client.open_account("bob")
    expired = await client.open_account("alice")
    await db.execute(
        "update sessions set expires_at = now() - interval '1 minute' where id = $1",
        expired.session,
    )
    gone = await client.sign_in("alice")
    await client.post("/api/auth/logout", token=gone.access)
    first, second = await client.sign_in("alice"), await client.sign_in("alice")
    for device in (bob, first, second):
        assert await client.is_authenticated(device.access)


async def test_login_is_denied_when_the_limit_is_reached_and_the_policy_is_deny(
    make_client: MakeClient,
) -> None:
    client = await make_client(session_limit=2, session_limit_policy="deny")
    first, second = await client.open_account("alice"), await client.sign_in("alice")
    response = await sign_in(client)
    assert_error(response, 403, "session_limit_reached", {"session": ["limit reached"]})
    assert await client.is_authenticated(first.access) and await client.is_authenticated(
        second.access
    )
    # A client without the password does not learn about the limit.
    wrong = {"user": {"email": "alice@example.test", "password": "wrong"}}
    refused = await client.post("/api/users/login", wrong)
    assert_error(refused, 401, "invalid_credentials", {"credentials": ["invalid"]})
    # The owner sees in the log that another person knows the password.
    events = (await client.get("/api/user/events", token=first.access)).body["events"]
    assert [event["kind"] for event in events[:2]] == ["sign_in_failed", "sign_in_denied"]
    await client.post("/api/auth/logout", token=second.access)
    assert (await sign_in(client)).status == 200


async def sign_in_concurrently(client: Client, db: asyncpg.Connection) -> list[Response]:
    """Send many logins of Alice, and block them until all wait for the lock on her row."""
    async with db.transaction():
        await db.execute("select from users for update")
        logins = asyncio.gather(*(sign_in(client) for _ in range(LOGINS)))
        await until_blocked(db, LOGINS)
    return await logins


@pytest.mark.parametrize("limit", [1, 3])
async def test_concurrent_logins_keep_the_limit(
    make_client: MakeClient, db: asyncpg.Connection, limit: int
) -> None:
    client = await make_client(login_limits=UNLIMITED, session_limit=limit)
    await client.open_account("alice")
    responses = await sign_in_concurrently(client, db)
    assert Counter(response.status for response in responses) == {200: LOGINS}
    alive = [
        await client.is_authenticated(response.body["user"]["token"]) for response in responses
    ]
    assert alive.count(True) == limit == await db.fetchval(OPEN)
    kinds = await db.fetch("select kind, count(*) from events group by kind")
    ended = LOGINS + 1 - limit
    assert dict(kinds) == {"registered": 1, "signed_in": LOGINS, "evicted": ended}


@pytest.mark.parametrize(
    ("policy", "statuses"), [("evict-oldest", {200: LOGINS}), ("deny", {200: 2, 403: LOGINS - 2})]
)
async def test_concurrent_correct_passwords_reach_no_login_limit(
    make_client: MakeClient, db: asyncpg.Connection, policy: str, statuses: dict[int, int]
) -> None:
    client = await make_client(session_limit=3, session_limit_policy=policy)
    await client.open_account("alice")
    responses = await asyncio.gather(*(sign_in(client) for _ in range(LOGINS)))
    assert Counter(response.status for response in responses) == statuses
    assert await db.fetchval(OPEN) == 3


async def test_concurrent_logins_are_denied_past_the_limit(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(login_limits=UNLIMITED, session_limit=5, session_limit_policy="deny")
    first = await client.open_account("alice")
    responses = await sign_in_concurrently(client, db)
    assert Counter(response.status for response in responses) == {200: 4, 403: LOGINS - 4}
    assert await db.fetchval(OPEN) == 5
    assert await client.is_authenticated(first.access)


async def test_eviction_and_revocation_of_other_sessions_do_not_deadlock(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(login_limits=UNLIMITED, session_limit=1)
    here = await client.open_account("alice")
    for _ in range(4):
        # Many sessions, used in another order than they were opened in. So both requests take
        # long, and would lock the same rows in a different order.
        await db.execute(
            "insert into sessions (user_id, expires_at, idle_expires_at, last_used_at)"
            " select id, now() + interval '1 day', 'infinity', now() - random() * interval '1 day'"
            " from users, generate_series(1, 3000)"
        )
        ended, opened = await asyncio.gather(
            client.delete("/api/user/sessions", token=here.access), sign_in(client)
        )
        # The new device is logged in in both orders: an evicted device ends no other session.
        assert (ended.status, opened.status) in ((204, 200), (401, 200))
        here = Device.of(opened)
        assert await client.is_authenticated(here.access)
        assert await db.fetchval(OPEN) == 1


@pytest.mark.parametrize("policy", ["evict-oldest", "deny"])
async def test_old_password_evicts_no_session_and_does_not_reveal_the_limit(
    make_client: MakeClient, db: asyncpg.Connection, policy: str
) -> None:
    """The password is verified, and then the login waits for the change of the password."""
    client = await make_client(
        session_limit=1, session_limit_policy=policy, login_limits=UNLIMITED, user_cache_size=0
    )
    here = await client.open_account("alice")
    change = {"user": {"password": "another password"}}
    async with db.transaction():
        await db.execute("select from users for update")
        changing = asyncio.create_task(client.put("/api/user", change, token=here.access))
        await until_blocked(db, 1)
        login = asyncio.create_task(sign_in(client))
        await until_blocked(db, 2)
    assert [(await changing).status, (await login).status] == [200, 401]
    assert await client.is_authenticated(here.access)
    kinds = await db.fetch("select kind from events order by id")
    assert [kind for (kind,) in kinds] == ["registered", "password_changed", "sign_in_failed"]
