"""Sessions: their tokens, the session list, and their end."""

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import jwt
import pytest

import sql
from service.http.client import MAX_USER_AGENT
from service.http.responses import MAX_PAGE_BYTES
from tests.conftest import SECRET, SIGNS_WITH_HS256, Client, Device, Dialect, MakeClient
from tests.responses import assert_error

REVOKED = {"token": ["has been revoked"]}
NOT_FOUND = {"session": ["not found"]}


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def alice_as(dialect: Dialect, token: str) -> dict[str, Any]:
    """Return the JSON of Alice in this dialect, with this token."""
    user = {"email": "alice@example.test", "token": token, "username": "alice"}
    return {**user, "bio": dialect.no_bio, "image": None}


async def test_registration_and_login_each_open_a_session(
    dialect_client: Client, dialect: Dialect
) -> None:
    given = {"email": "alice@example.test", "password": "alice-secret"}
    registered = await dialect_client.post("/api/users", {"user": {**given, "username": "alice"}})
    logged_in = await dialect_client.post("/api/users/login", {"user": given})
    assert (registered.status, logged_in.status) == (dialect.registered, 200)
    for response in (registered, logged_in):
        device = Device.of(response)
        assert response.body == {
            "user": alice_as(dialect, device.access),
            "refresh_token": device.refresh,
            "expires_in": 86_400,
        }
        assert len(device.refresh) == 43
    first, second = Device.of(registered), Device.of(logged_in)
    assert first.session != second.session and first.refresh != second.refresh
    assert await dialect_client.is_authenticated(
        first.access
    ) and await dialect_client.is_authenticated(second.access)


async def test_current_user_gets_an_access_token_of_the_same_session(
    dialect_client: Client, dialect: Dialect
) -> None:
    device = await dialect_client.open_account("alice")
    read = await dialect_client.get("/api/user", token=device.access)
    changed = await dialect_client.put("/api/user", {"user": {"image": None}}, token=device.access)
    for response in (read, changed):
        token = response.body["user"]["token"]
        assert claims_of(token)["sid"] == device.session
        assert response.body == {"user": alice_as(dialect, token)}


@SIGNS_WITH_HS256
async def test_token_is_revoked_when_its_session_belongs_to_another_user(
    client: Client, alice: str, bob: str
) -> None:
    for sid in (claims_of(bob)["sid"], str(uuid4())):
        forged = jwt.encode({**claims_of(alice), "sid": sid}, SECRET)
        response = await client.get("/api/user", token=forged)
        assert_error(response, 401, "token_revoked", REVOKED)


async def test_access_token_never_outlives_its_session(make_client: MakeClient) -> None:
    client = await make_client(session_ttl=100, access_token_ttl=1000)
    before = int(time.time())
    given = {"username": "alice", "email": "a@example.test", "password": "alice-secret"}
    opened = await client.post("/api/users", {"user": given})
    refreshed = await client.refresh(opened.body["refresh_token"])
    read = await client.get("/api/user", token=refreshed.body["access_token"])
    for token in (refreshed.body["access_token"], read.body["user"]["token"]):
        assert before + 98 <= claims_of(token)["exp"] <= time.time() + 100
    assert 98 <= opened.body["expires_in"] <= 100
    assert 98 <= refreshed.body["expires_in"] <= 100


@pytest.mark.parametrize(
    "change",
    [
        "update sessions set expires_at = now() - interval '1 second'",
        "update sessions set ended_at = now(), end_reason = 'session_ended'",
        "delete from sessions",
    ],
    ids=["expired", "ended", "deleted"],
)
async def test_access_token_is_revoked_when_its_session_has_ended(
    client: Client, db: asyncpg.Connection, alice: str, change: str
) -> None:
    await db.execute(change)
    response = await client.get("/api/user", token=alice)
    assert_error(response, 401, "token_revoked", REVOKED)
    assert response.headers["WWW-Authenticate"] == "Token"


async def test_logout_ends_only_the_current_session(client: Client) -> None:
    here, elsewhere = await client.open_account("alice"), await client.sign_in("alice")
    response = await client.post("/api/auth/logout", token=here.access)
    assert (response.status, response.body) == (204, None)
    for method, path in (("GET", "/api/user"), ("POST", "/api/auth/logout")):
        after = await client.send(method, path, token=here.access)
        assert_error(after, 401, "token_revoked", REVOKED)
    refused = await client.refresh(here.refresh)
    revoked = {"refresh_token": ["has been revoked"]}
    assert_error(refused, 401, "refresh_token_revoked", revoked)
    assert await client.is_authenticated(elsewhere.access)


async def test_list_sessions_has_the_open_sessions_newest_first(
    client: Client, db: asyncpg.Connection
) -> None:
    before = datetime.now(UTC)
    phone = await client.open_account("alice")
    await db.execute("update sessions set user_agent = 'Phone/1.0'")
    gone = await client.sign_in("alice")
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
    laptop = await client.sign_in("alice", headers={"User-Agent": agent})
    await client.post("/api/auth/logout", token=gone.access)
    response = await client.get("/api/user/sessions", token=phone.access)
    assert (response.status, set(response.body)) == (200, {"sessions"})
    sessions = response.body["sessions"]
    for session in sessions:
        created, used = session.pop("created_at"), session.pop("last_used_at")
        assert created == used and created.endswith("Z") and len(created) == 24
        assert (
            before <= datetime.fromisoformat(created) <= datetime.now(UTC)
            or abs(before - datetime.fromisoformat(created)).total_seconds() < 1
        )
    assert sessions == [
        {
            "id": laptop.session,
            "ip": "127.0.0.1",
            "user_agent": agent,
            "device_name": "Firefox on Linux",
            "current": False,
        },
        {
            "id": phone.session,
            "ip": "127.0.0.1",
            "user_agent": "Phone/1.0",
            "device_name": None,
            "current": True,
        },
    ]


async def test_list_sessions_includes_the_current_session_when_there_are_more_than_1000(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await db.execute(
        "insert into sessions (user_id, created_at, expires_at, idle_expires_at)"
        " select id, now() + interval '1 minute', now() + interval '1 day', 'infinity'"
        " from users, generate_series(1, 1500)"
    )
    listed = (await client.get("/api/user/sessions", token=device.access)).body["sessions"]
    assert len(listed) == 1000
    assert [session["id"] for session in listed if session["current"]] == [device.session]
    assert listed[-1]["current"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("x" * 5000, "x" * 300), ("Ger\xe4t", "Ger\ufffdt"), ("", None)],
    ids=["too long", "no UTF-8", "none"],
)
async def test_user_agent_is_stored_short_and_readable(
    client: Client, sent: str, kept: str | None
) -> None:
    user = {"username": "alice", "email": "alice@example.test", "password": "alice-secret"}
    body = json.dumps({"user": user}).encode()
    host, port = client.http.server.host, client.http.server.port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nUser-Agent: %s\r\n"
        b"Connection: close\r\n\r\n%s" % (len(body), sent.encode("latin-1"), body)
    )
    response = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
    writer.close()
    token = response["user"]["token"]
    (session,) = (await client.get("/api/user/sessions", token=token)).body["sessions"]
    (event,) = (await client.get("/api/user/events", token=token)).body["events"]
    assert (session["user_agent"], event["user_agent"]) == (kept, kept)


async def test_list_sessions_omits_an_expired_session(
    client: Client, db: asyncpg.Connection
) -> None:
    here, old = await client.open_account("alice"), await client.sign_in("alice")
    await db.execute("update sessions set expires_at = now() where id = $1", old.session)
    response = await client.get("/api/user/sessions", token=here.access)
    assert [session["id"] for session in response.body["sessions"]] == [here.session]
    ended = await client.delete(f"/api/user/sessions/{old.session}", token=here.access)
    assert_error(ended, 404, "not_found", NOT_FOUND)


@pytest.mark.parametrize("spelt", [str.lower, str.upper])
async def test_revoke_session_ends_the_session_of_another_device(
    client: Client, spelt: Any
) -> None:
    here, lost = await client.open_account("alice"), await client.sign_in("alice")
    path = f"/api/user/sessions/{spelt(lost.session)}"
    response = await client.delete(path, token=here.access)
    assert (response.status, response.body) == (204, None)
    assert_error(await client.get("/api/user", token=lost.access), 401, "token_revoked", REVOKED)
    assert (await client.refresh(lost.refresh)).body["code"] == "refresh_token_revoked"
    assert await client.is_authenticated(here.access)
    again = await client.delete(path, token=here.access)
    assert_error(again, 404, "not_found", NOT_FOUND)


async def test_revoke_session_can_end_the_current_session(client: Client) -> None:
    here = await client.open_account("alice")
    path = f"/api/user/sessions/{here.session}"
    assert (await client.delete(path, token=here.access)).status == 204
    assert not await client.is_authenticated(here.access)


async def test_revoke_session_does_not_find_the_session_of_another_user(
    client: Client, bob: str
) -> None:
    alice = await client.open_account("alice")
    response = await client.delete(f"/api/user/sessions/{alice.session}", token=bob)
    assert_error(response, 404, "not_found", NOT_FOUND)
    assert await client.is_authenticated(alice.access)
    assert (await client.delete("/api/user/sessions", token=bob)).status == 204
    assert await client.is_authenticated(alice.access)


SPELLINGS = {
    "unknown": lambda own: str(uuid4()),
    "a word": lambda own: "all",
    "a number": lambda own: "1",
    "a URN": lambda own: f"urn:uuid:{own}",
    "no dashes": lambda own: own.replace("-", ""),
    "a NUL": lambda own: own[:-1] + "%00",
    "broken UTF-8": lambda own: own[:-1] + "%ff",
    "a digit of another script": lambda own: own[:-1] + "%D9%A1",
    "a quote": lambda own: own + "'",
    "7,000 letters": lambda own: "a" * 7000,
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
async def test_revoke_session_does_not_find_an_unknown_or_malformed_id(
    client: Client, spell: Any
) -> None:
    here = await client.open_account("alice")
    response = await client.delete(f"/api/user/sessions/{spell(here.session)}", token=here.access)
    assert_error(response, 404, "not_found", NOT_FOUND)
    assert await client.is_authenticated(here.access)


async def test_revoke_other_sessions_ends_all_but_the_current_session(client: Client) -> None:
    here = await client.open_account("alice")
    others = [await client.sign_in("alice") for _ in range(3)]
    response = await client.delete("/api/user/sessions", token=here.access)
    assert (response.status, response.body) == (204, None)
    for other in others:
        gone = await client.get("/api/user", token=other.access)
        assert_error(gone, 401, "token_revoked", REVOKED)
    assert await client.is_authenticated(here.access)
    assert (await client.delete("/api/user/sessions", token=here.access)).status == 204


async def test_password_change_ends_all_other_sessions(client: Client) -> None:
    here, elsewhere = await client.open_account("alice"), await client.sign_in("alice")
    given = {"user": {"password": "a new password"}}
    response = await client.put("/api/user", given, token=here.access)
    assert await client.is_authenticated(here.access) and await client.is_authenticated(
        response.body["user"]["token"]
    )
    assert (await client.refresh(here.refresh)).status == 200
    gone = await client.get("/api/user", token=elsewhere.access)
    assert_error(gone, 401, "token_revoked", REVOKED)
    assert (await client.refresh(elsewhere.refresh)).body["code"] == "refresh_token_revoked"


async def test_change_of_other_fields_ends_no_session(client: Client) -> None:
    here, elsewhere = await client.open_account("alice"), await client.sign_in("alice")
    given = {"user": {"email": "other@example.test", "username": "other", "bio": "new"}}
    assert (await client.put("/api/user", given, token=here.access)).status == 200
    assert await client.is_authenticated(elsewhere.access)


async def test_deletion_ends_every_session(client: Client, db: asyncpg.Connection) -> None:
    here, elsewhere = await client.open_account("alice"), await client.sign_in("alice")
    given = {"user": {"password": "alice-secret"}}
    assert (await client.delete("/api/user", given, token=here.access)).status == 204
    for device in (here, elsewhere):
        response = await client.get("/api/user", token=device.access)
        assert_error(response, 401, "token_revoked", REVOKED)
        assert (await client.refresh(device.refresh)).body["code"] == "refresh_token_invalid"
    assert await db.fetchval("select count(*) from sessions") == 0
    assert await db.fetchval("select count(*) from refresh_tokens") == 0


async def test_find_state_reports_an_expired_session(
    client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    assert tuple(await sql.sessions.find_state(db, id=device.session) or ()) == (None, False)
    await db.execute("update sessions set expires_at = now()")
    assert tuple(await sql.sessions.find_state(db, id=device.session) or ()) == (None, True)


async def test_longest_list_of_sessions_is_within_the_size_of_a_page(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    """So the list needs no pages."""
    await db.execute(
        "insert into sessions (user_id, expires_at, idle_expires_at, ip, user_agent)"
        " select id, now() + interval '1 day', now() + interval '1 day', $1, $2"
        " from users cross join generate_series(1, 1000)",
        *("ffff:" * 7 + "ffff", "🐘" * MAX_USER_AGENT),
    )
    response = await client.get("/api/user/sessions", token=alice)
    assert len(response.body["sessions"]) == 1000
    assert int(response.headers["Content-Length"]) < MAX_PAGE_BYTES
