"""The security log: its events, their kinds and their pages."""

import ast
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.accounts.account_lock import lock_account, unlock_account
from service.accounts.security_log import EventKind
from service.http.client import MAX_USER_AGENT
from service.http.client import Client as HttpClient
from service.http.responses import MAX_PAGE_BYTES
from tests.conftest import Client, Device, Dialect, MakeClient
from tests.responses import assert_error, assert_invalid

ROOT = Path(__file__).resolve().parents[2]
AGENT = {"User-Agent": "Laptop/1.0"}


async def log_of(client: Client, access: str) -> list[dict[str, Any]]:
    """Return all events of the account, oldest first."""
    response = await client.get("/api/user/events?limit=100", token=access)
    assert (response.status, response.body["next_before"]) == (200, None)
    events: list[dict[str, Any]] = response.body["events"]
    return events[::-1]


async def kinds_of(client: Client, access: str) -> list[tuple[str, str | None]]:
    return [(event["kind"], event["session_id"]) for event in await log_of(client, access)]


async def test_event_has_kind_time_ip_user_agent_and_session(client: Client) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    user = {"username": "alice", "email": "alice@example.test", "password": "alice-secret"}
    device = Device.of(await client.post("/api/users", {"user": user}, headers=AGENT))
    response = await client.get("/api/user/events", token=device.access)
    (event,) = response.body["events"]
    identity, moment = event["id"], event["created_at"]
    assert isinstance(identity, int) and moment.endswith("Z") and len(moment) == 24
    assert before <= datetime.fromisoformat(moment) <= datetime.now(UTC)
    assert (response.status, response.body) == (
        200,
        {
            "events": [
                {
                    "id": identity,
                    "kind": "registered",
                    "created_at": moment,
                    "ip": "127.0.0.1",
                    "user_agent": "Laptop/1.0",
                    "session_id": device.session,
                    "amr": ["pwd"],
                    "by_administrator": False,
                }
            ],
            "next_before": None,
        },
    )


async def test_logins_and_logouts_are_logged(client: Client) -> None:
    first = await client.open_account("alice")
    wrong = {"user": {"email": "ALICE@example.test", "password": "wrong"}}
    assert (await client.post("/api/users/login", wrong)).status == 401
    second = await client.sign_in("alice")
    await client.post("/api/auth/logout", token=second.access)
    assert await kinds_of(client, first.access) == [
        ("registered", first.session),
        ("sign_in_failed", None),
        ("signed_in", second.session),
        ("signed_out", second.session),
    ]


async def test_end_of_a_session_is_logged_with_its_reason(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await make_client(session_limit=3)
    here = await client.open_account("alice")
    by_id, by_all = await client.sign_in("alice"), await client.sign_in("alice")
    await client.delete(f"/api/user/sessions/{by_id.session}", token=here.access)
    await client.delete("/api/user/sessions", token=here.access)
    reused = await client.sign_in("alice")
    await client.refresh((await client.refresh(reused.refresh)).body["refresh_token"])
    await client.refresh(reused.refresh)
    evicted = await client.sign_in("alice")
    await client.refresh(here.refresh)
    later = [await client.sign_in("alice"), await client.sign_in("alice")]
    expected = [
        ("session_ended", by_id.session),
        ("session_ended", by_all.session),
        ("refresh_token_reused", reused.session),
        ("evicted", evicted.session),
    ]
    seen = await kinds_of(client, later[0].access)
    assert [line for line in seen if line[0] not in ("registered", "signed_in")] == expected
    reasons = await db.fetch(
        "select end_reason, id::text from sessions where ended_at is not null order by ended_at"
    )
    assert [tuple(row) for row in reasons] == expected


async def test_changes_of_email_and_password_are_logged(
    dialect_client: Client, dialect: Dialect
) -> None:
    client = dialect_client
    email_changed = "email_changed" if dialect.strict else "email_change_requested"
    here, other = await client.open_account("alice"), await client.sign_in("alice")
    for user in (
        {"bio": "no line", "username": "alicia"},
        {"email": "alice@example.test"},
        {"email": "new@example.test"},
        {"email": "newer@example.test", "password": "a new password"},
    ):
        assert (await client.put("/api/user", {"user": user}, token=here.access)).status == 200
    assert (await kinds_of(client, here.access))[2:] == [
        (email_changed, here.session),
        ("password_changed", here.session),
        ("session_ended", other.session),
        (email_changed, here.session),
    ]


async def test_failed_change_is_not_logged(client: Client, bob: str) -> None:
    here = await client.open_account("alice")
    taken = {"user": {"email": "bob@example.test", "password": "a new password"}}
    assert (await client.put("/api/user", taken, token=here.access)).status == 409
    assert await kinds_of(client, here.access) == [("registered", here.session)]


async def test_deletion_event_is_kept_after_the_account_is_deleted(
    client: Client, db: asyncpg.Connection
) -> None:
    here = await client.open_account("alice")
    given = {"user": {"password": "alice-secret"}}
    await client.delete("/api/user", given, token=here.access, headers=AGENT)
    rows = await db.fetch(
        "select kind, session_id::text, user_agent, user_id is not null as known"
        " from events order by id desc limit 1"
    )
    assert [tuple(row) for row in rows] == [("account_deleted", here.session, "Laptop/1.0", True)]
    # The next owner of the username does not see the event.
    again = await client.open_account("alice")
    assert await kinds_of(client, again.access) == [("registered", again.session)]


async def test_failed_login_has_no_user_when_the_email_is_unknown(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    unknown = {"user": {"email": "nobody@example.test", "password": "wrong"}}
    assert (await client.post("/api/users/login", unknown)).status == 401
    rows = await db.fetch("select kind, ip from events where user_id is null")
    assert [tuple(row) for row in rows] == [("sign_in_failed", "127.0.0.1")]
    assert len(await log_of(client, alice)) == 1


async def test_list_events_returns_pages_newest_first(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    user_id = await db.fetchval("select id from users where username = 'alice'")
    await db.execute(
        "insert into events (user_id, kind) select $1, 'signed_in' from generate_series(1, 44)",
        user_id,
    )
    seen: list[int] = []
    path, sizes = "/api/user/events", []
    while path:
        page = (await client.get(path, token=alice)).body
        sizes.append(len(page["events"]))
        seen += [event["id"] for event in page["events"]]
        path = f"/api/user/events?before={page['next_before']}" if page["next_before"] else ""
    assert sizes == [20, 20, 5]
    all_ids = await db.fetch("select id from events where user_id = $1 order by id desc", user_id)
    assert seen == [row["id"] for row in all_ids]
    exact = (await client.get("/api/user/events?limit=45", token=alice)).body
    assert (len(exact["events"]), exact["next_before"]) == (45, None)
    one = (await client.get("/api/user/events?limit=1", token=alice)).body
    assert (len(one["events"]), one["next_before"]) == (1, seen[0])
    none = await client.get("/api/user/events?before=1", token=alice)
    assert none.body == {"events": [], "next_before": None}


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("limit=0", "limit", "must be at least 1"),
        ("limit=-1", "limit", "must be at least 1"),
        ("limit=101", "limit", "must be at most 100"),
        ("limit=ten", "limit", "must be a whole number"),
        ("limit=1.0", "limit", "must be a whole number"),
        ("limit=%D9%A1", "limit", "must be a whole number"),
        ("limit=%00", "limit", "must be a whole number"),
        ("limit=1&limit=2", "limit", "must be given once"),
        ("before=0", "before", "must be at least 1"),
        ("before=x", "before", "must be a whole number"),
        ("before=9223372036854775808", "before", "must be at most 9223372036854775807"),
    ],
)
async def test_list_events_rejects_invalid_parameters(
    dialect_client: Client, dialect: Dialect, query: str, field: str, message: str
) -> None:
    token = await dialect_client.register("alice")
    response = await dialect_client.get(f"/api/user/events?{query}", token=token)
    assert_invalid(response, dialect.invalid, **{field: message})


async def test_list_events_returns_only_events_of_the_current_user(
    client: Client, alice: str, bob: str
) -> None:
    assert len(await log_of(client, bob)) == 1
    response = await client.get("/api/user/events")
    assert_error(response, 401, "token_missing", {"token": ["is missing"]})


async def test_longest_page_of_events_is_within_the_size_of_a_page(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    """So the size of a page needs no limit in bytes."""
    await db.execute(
        "insert into events (user_id, kind, ip, user_agent, session_id)"
        " select id, 'refresh_token_reused', $1, $2, id"
        " from users cross join generate_series(1, 99)",
        *("ffff:" * 7 + "ffff", "🐘" * MAX_USER_AGENT),
    )
    response = await client.get("/api/user/events?limit=100", token=alice)
    assert len(response.body["events"]) == 100
    assert int(response.headers["Content-Length"]) < MAX_PAGE_BYTES


# An insert has a literal or a parameter as its second column, the kind.
INSERTED = re.compile(
    r"insert into events \(user_id, kind, .*?\)\s*(?:select |values \()\S+, (\S+),"
)
SQL = [path.read_text(encoding="utf-8") for path in (ROOT / "sql/accounts").glob("*.sql")]


def kinds_in_sql() -> set[str]:
    """Return the kinds that queries write as literals, in events and as reasons of an end."""
    inserted = [kind for text in SQL for kind in INSERTED.findall(text)]
    assert len(inserted) == sum(text.count("insert into events") for text in SQL)
    reasons = [reason for text in SQL for reason in re.findall(r"end_reason = (\S+)", text)]
    written = {text.strip("'") for text in inserted + reasons if not text.startswith("$")}
    assert all(re.fullmatch(r"[a-z_]+", kind) for kind in written)
    return written


def kinds_in_service() -> set[str]:
    return {
        EventKind[node.attr]
        for path in (ROOT / "service").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "EventKind"
    }


def test_kinds_in_sql_are_event_kinds() -> None:
    assert kinds_in_sql() == {
        "evicted",
        "reauthenticated",
        "refresh_token_reused",
        "session_ended",
    }
    assert kinds_in_sql() <= set(EventKind)


def test_every_event_kind_is_written_by_the_service_or_by_a_query() -> None:
    assert kinds_in_service() | kinds_in_sql() == set(EventKind)


def test_sessions_page_lists_every_event_kind_with_its_meaning() -> None:
    page = (ROOT / "docs/sessions.md").read_text(encoding="utf-8")
    section = page.partition("\n## The security log\n")[2].partition("\n## ")[0]
    table = section.partition("\n| kind | meaning |\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE)
    assert rows == [(kind, kind.meaning) for kind in EventKind]


@pytest.mark.parametrize("kind", EventKind)
def test_event_kind_is_the_name_of_its_member_and_its_meaning_is_a_sentence(
    kind: EventKind,
) -> None:
    assert kind == kind.name.lower()
    assert re.fullmatch(r"[A-Z].+\.", kind.meaning)


async def test_openapi_document_lists_every_event_kind_with_its_meaning(client: Client) -> None:
    schemas = (await client.get("/openapi.json")).body["components"]["schemas"]
    schema = schemas["Event"]["properties"]["kind"]
    assert schema["enum"] == list(EventKind)
    assert schema["description"].splitlines() == [
        f"- `{kind}`: {kind.meaning}" for kind in EventKind
    ]


async def test_owner_does_not_see_the_ip_address_of_an_administrator(
    client: Client, db: asyncpg.Connection
) -> None:
    await client.register("alice")
    user_id = await db.fetchval("select id from users")
    administrator = replace(HttpClient.at("192.0.2.9", "Backoffice/1.0"), actor="backoffice")
    async with db.transaction():
        await lock_account(db, administrator, user_id)
        await unlock_account(db, administrator, user_id)
    rows = await db.fetch("select actor, ip from events where kind <> 'registered'")
    assert [tuple(row) for row in rows] == [("backoffice", "192.0.2.9")] * 3
    device = await client.sign_in("alice")
    events = (await client.get("/api/user/events", token=device.access)).body["events"]
    shown = [(event["kind"], event["by_administrator"], event["ip"]) for event in events[1:4]]
    assert shown == [
        ("account_unlocked", True, None),
        ("session_ended", True, None),
        ("account_locked", True, None),
    ]
