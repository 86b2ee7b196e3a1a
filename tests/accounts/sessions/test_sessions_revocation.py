"""What one process changes, every process sees once it has heard of it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import jwt
import pytest

import sql
from service.accounts.sessions.authentication import SESSION_CACHE
from service.database.change_listener import CHANGE_LISTENER
from service.database.pool import DATABASE
from tests.accounts.pair import REVOKED, Pair, log_out, queries_of, trusted
from tests.conftest import SECRET, MakeClient

PASSWORD = "alice-secret"
LOGIN = {"user": {"email": "alice@example.test", "password": PASSWORD}}


async def test_a_remembered_user_costs_no_query(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = queries_of(pair.there, monkeypatch)
    for _ in range(3):
        assert (await pair.there.get("/api/user", token=pair.token)).status == 200
    assert names == []


async def test_without_a_cache_every_request_asks(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(user_cache_size=0)
    token = await client.register("alice")
    names = queries_of(client, monkeypatch)
    for _ in range(3):
        assert (await client.get("/api/user", token=token)).status == 200
    assert names == ["find_with_user"] * 3


async def end_from_another_device(pair: Pair) -> None:
    other = (await pair.here.post("/api/users/login", LOGIN)).body["user"]["token"]
    assert (await pair.here.delete("/api/user/sessions", token=other)).status == 204


async def change_the_password(pair: Pair) -> None:
    other = (await pair.here.post("/api/users/login", LOGIN)).body["user"]["token"]
    change = {"user": {"password": "another secret"}}
    assert (await pair.here.put("/api/user", change, token=other)).status == 200


async def delete_the_account(pair: Pair) -> None:
    body = {"user": {"password": PASSWORD}}
    assert (await pair.here.delete("/api/user", body, token=pair.token)).status == 204


ENDINGS = [log_out, end_from_another_device, change_the_password, delete_the_account]


@pytest.mark.parametrize("end", ENDINGS)
async def test_an_end_in_one_process_counts_in_another(
    pair: Pair, end: Callable[[Pair], Awaitable[None]]
) -> None:
    await end(pair)
    answer = await pair.heard()
    assert (answer.status, answer.body) == (401, REVOKED)


@pytest.mark.parametrize("end", ENDINGS)
async def test_an_end_counts_at_the_next_request_of_the_same_process(
    pair: Pair, end: Callable[[Pair], Awaitable[None]]
) -> None:
    assert (await pair.here.get("/api/user", token=pair.token)).status == 200
    await end(pair)
    answer = await pair.here.get("/api/user", token=pair.token)
    assert (answer.status, answer.body) == (401, REVOKED)


async def test_an_eviction_in_one_process_counts_in_another(
    pair: Pair, make_client: MakeClient
) -> None:
    limited = await make_client(session_limit=1)
    assert (await limited.post("/api/users/login", LOGIN)).status == 200
    answer = await pair.heard()
    assert (answer.status, answer.body["code"]) == (401, "session_evicted")


async def test_a_changed_profile_is_seen_by_another_process(pair: Pair) -> None:
    await pair.here.put("/api/user", {"user": {"bio": "new"}}, token=pair.token)
    assert (await pair.here.get("/api/user", token=pair.token)).body["user"]["bio"] == "new"
    assert (await pair.heard()).body["user"]["bio"] == "new"


async def test_reads_that_race_changes_never_leave_an_old_answer(pair: Pair) -> None:
    """Without the mark on questions under way, a slow answer is remembered after the news."""

    async def read() -> None:
        for _ in range(60):
            pair.there.http.app[SESSION_CACHE].clear()
            await pair.there.get("/api/user", token=pair.token)

    async def write() -> None:
        for number in range(60):
            change = {"user": {"bio": f"bio {number}"}}
            assert (await pair.here.put("/api/user", change, token=pair.token)).status == 200

    await asyncio.gather(write(), *(read() for _ in range(8)))
    assert (await pair.heard()).body["user"]["bio"] == "bio 59"


@pytest.fixture
def slow_answer(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[asyncio.Event, asyncio.Event]]:
    """Holds up what the database answered to one process: told when it is there, waits to go on."""

    def hold_up() -> tuple[asyncio.Event, asyncio.Event]:
        database, there, go_on = pair.there.http.app[DATABASE], asyncio.Event(), asyncio.Event()
        run = database.run

        async def slowly(query: sql.Query, arguments: list[Any]) -> Any:
            result = await run(query, arguments)
            if query.name == "find_with_user":
                there.set()
                await go_on.wait()
            return result

        monkeypatch.setattr(database, "run", slowly)
        return there, go_on

    return hold_up


async def test_an_answer_that_was_overtaken_by_news_is_not_remembered(
    pair: Pair, slow_answer: Callable[[], tuple[asyncio.Event, asyncio.Event]]
) -> None:
    memory = pair.there.http.app[SESSION_CACHE]
    memory.clear()
    there, go_on = slow_answer()
    request = asyncio.create_task(pair.there.get("/api/user", token=pair.token))
    await there.wait()
    await log_out(pair)
    await pair.there.http.app[CHANGE_LISTENER].wait_until_applied()
    go_on.set()
    assert (await request).status == 200, "it was asked before the end"
    assert not memory.users
    assert (await pair.there.get("/api/user", token=pair.token)).status == 401


async def test_an_answer_to_a_question_asked_unheard_is_not_remembered(
    pair: Pair, slow_answer: Callable[[], tuple[asyncio.Event, asyncio.Event]]
) -> None:
    """What changed in between was told to nobody, though somebody listens when the answer comes."""
    memory, notifications = pair.there.http.app[SESSION_CACHE], pair.there.http.app[CHANGE_LISTENER]
    memory.clear()
    notifications.trusted_until = 0.0
    there, go_on = slow_answer()
    request = asyncio.create_task(pair.there.get("/api/user", token=pair.token))
    await there.wait()
    assert not notifications.is_trusted()
    await trusted(pair.there)
    # Without the mark that `forget` leaves on it, as if all had been forgotten before it was asked.
    for load in memory._loads:
        load.stale = False
    go_on.set()
    assert (await request).status == 200
    assert not memory.users


async def test_memory_is_bounded(make_client: MakeClient) -> None:
    client = await trusted(await make_client(user_cache_size=3))
    await client.register("alice")
    tokens = [
        (await client.post("/api/users/login", LOGIN)).body["user"]["token"] for _ in range(10)
    ]
    for token in tokens:
        assert (await client.get("/api/user", token=token)).status == 200
    memory = client.http.app[SESSION_CACHE]
    assert len(memory.users) == len(memory.claims) == 3
    assert list(memory.claims) == tokens[-3:]
    # What finds a user's sessions goes with the user.
    await client.delete("/api/user", {"user": {"password": PASSWORD}}, token=tokens[-1])
    assert (memory.users, memory._sessions) == ({}, {})


async def test_a_remembered_session_that_was_cut_short_ends_then(
    pair: Pair, db: asyncpg.Connection
) -> None:
    await db.execute("update sessions set expires_at = now() + interval '2 seconds'")
    assert (await pair.heard()).status == 200
    (user,) = pair.there.http.app[SESSION_CACHE].users.values()
    async with asyncio.timeout(20):
        while time.time() < user.session_expires_at:
            await asyncio.sleep(0.01)
    answer = await pair.there.get("/api/user", token=pair.token)
    assert (answer.status, answer.body) == (401, REVOKED)


@pytest.mark.parametrize("table", ["users", "sessions"])
async def test_a_table_that_is_emptied_by_hand_is_noticed(
    pair: Pair, db: asyncpg.Connection, table: str
) -> None:
    await db.execute(f"truncate {table} cascade")
    assert (await pair.heard()).status == 401


async def test_a_remembered_session_is_its_users_alone(pair: Pair) -> None:
    bob = await pair.there.register("bob")
    assert (await pair.there.get("/api/user", token=bob)).status == 200
    alice_claims, bob_claims = (jwt.decode(token, SECRET, ["HS256"]) for token in (pair.token, bob))
    forged = jwt.encode({**alice_claims, "sid": bob_claims["sid"]}, SECRET)
    answer = await pair.there.get("/api/user", token=forged)
    assert (answer.status, answer.body) == (401, REVOKED)


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_body_held_back_over_the_end_of_its_session_writes_nothing(
    pair: Pair, db: asyncpg.Connection, method: str
) -> None:
    article = {"article": {"title": "t", "description": "d", "body": "b"}}
    assert (await pair.here.post("/api/articles", article, token=pair.token)).status == 201
    path = "/api/articles" if method == "POST" else "/api/articles/t"
    article["article"]["body"] = "of a thief"
    body = json.dumps(article).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", pair.there.http.server.port)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Token {pair.token}\r\n"
    head += f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    # Asked for the body: the token was good until here.
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    await log_out(pair)
    assert (await pair.heard()).status == 401
    writer.write(body)
    assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
    writer.close()
    assert await db.fetch("select body from articles") == [("b",)]
