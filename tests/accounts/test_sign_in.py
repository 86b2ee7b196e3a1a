"""The end of a login, which is the only code that opens a session."""

import ast
import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

import sql
from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.sessions.authentication_methods import PASSWORD
from service.accounts.sign_in import SIGN_IN
from service.database import pool
from service.database.pool import DATABASE
from service.http.client import Client as HttpClient
from service.http.errors import Unauthorized
from service.settings.rate_limit import Limit
from tests.accounts.mailed_links import VERIFY, client_without_delivery, last_token, links
from tests.accounts.two_instances import queries_of
from tests.conftest import Client, Dialect, MakeClient, until_blocked
from tests.responses import assert_error

ALICE = {"user": {"email": "alice@example.test", "password": "alice-secret"}}
ROOT = Path(__file__).resolve().parents[2]


def uses(name: str) -> set[str]:
    """Return the files of the service that call or pass on ``name``, which may have a dot."""
    found = set()
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute | ast.Name) and (
                ast.unparse(node) == name or ast.unparse(node).endswith(f".{name}")
            ):
                found.add(path.relative_to(ROOT / "service/accounts").as_posix())
    return found


def test_open_session_is_called_only_at_the_end_of_a_login() -> None:
    assert uses("open_session") == {"sign_in.py"}
    assert uses("open_session_of_known_login") == {"sign_in.py"}
    assert uses("sessions.open") == {"sessions/sessions.py"}


async def test_finish_opens_a_session_without_a_request(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    app = client.http.app
    assert app is not None
    user_id = await db.fetchval("select id from users")
    user = await sql.users.find_credentials(app[DATABASE], id=user_id)
    caller = HttpClient.at("203.0.113.9", "curl/8.5.0")
    response = await app[SIGN_IN].finish(caller, user, PASSWORD)
    body = orjson.loads(response.body)
    assert (response.status, set(body)) == (200, {"user", "refresh_token", "expires_in"})
    assert await client.is_authenticated(body["user"]["token"])
    event = await db.fetchrow("select kind, ip, user_agent from events order by id desc limit 1")
    assert tuple(event) == ("signed_in", "203.0.113.9", "curl/8.5.0")


async def test_login_with_a_known_device_takes_one_statement_before_and_one_after_the_hash(
    client: Client, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = queries_of(monkeypatch)
    await client.sign_in("alice")
    assert names == ["admit", "open"]


async def test_statements_of_a_login_read_only_the_rows_that_they_need(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    """The tables are small, so by default PostgreSQL would read all of them."""
    user_id = await db.fetchval("select id from users")
    await db.execute("set plan_cache_mode = force_generic_plan")  # As the service does.
    async with db.transaction():  # The views count the scans of the current transaction.
        await db.fetchval("select is_known_login($1, '', '', '')", user_id)
        await db.fetch("select throttle_reserve('{a}', '{5}', '{60}', 120)")
        read = "select seq_scan from pg_stat_xact_user_tables where relname = $1"
        tables = ("events", "known_ips", "throttle")
        assert [await db.fetchval(read, table) for table in tables] == [0, 0, 0]
        by_time = "select pg_stat_get_xact_numscans('throttle_ends_at_idx'::regclass)"
        assert await db.fetchval(by_time) == 0


async def test_login_with_a_known_device_rejects_a_password_that_has_changed(
    client: Client, alice: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password changes between the two statements of the login."""
    app = client.http.app
    assert app is not None
    verify = app[PASSWORDS].verify

    async def verify_before_a_change(*arguments: Any) -> bool:
        matches: bool = await verify(*arguments)
        await db.execute("update users set password_version = password_version + 1")
        return matches

    monkeypatch.setattr(app[PASSWORDS], "verify", verify_before_a_change)
    response = await client.post("/api/users/login", ALICE)
    assert_error(response, 401, "invalid_credentials", {"credentials": ["invalid"]})
    assert await db.fetchval("select count(*) from sessions") == 1


async def test_login_locks_the_user_before_its_counters(
    client: Client, alice: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed login holds the lock of the user, and then locks the same counters."""
    monkeypatch.setattr(pool, "CONFLICTS", ())  # No retry: a deadlock is a 500.
    app = client.http.app
    assert app is not None
    verify = app[PASSWORDS].verify
    verified, go_on = asyncio.Event(), asyncio.Event()

    async def verify_and_wait(*arguments: Any) -> bool:
        matches: bool = await verify(*arguments)
        verified.set()
        await go_on.wait()
        return matches

    monkeypatch.setattr(app[PASSWORDS], "verify", verify_and_wait)
    login = asyncio.create_task(client.post("/api/users/login", ALICE))
    await verified.wait()
    async with db.transaction():
        await db.execute("select from users for no key update")
        go_on.set()
        await until_blocked(db, 1)
        await db.execute("select from throttle for update")
    assert (await login).status == 200


async def test_finish_rejects_a_login_when_the_password_has_changed_since_its_verification(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    app = client.http.app
    assert app is not None
    user_id = await db.fetchval("select id from users")
    user = await sql.users.find_credentials(app[DATABASE], id=user_id)
    await db.execute("update users set password_version = password_version + 1")
    with pytest.raises(Unauthorized) as raised:
        await app[SIGN_IN].finish(HttpClient.at("203.0.113.9"), user, PASSWORD)
    assert raised.value.code == "invalid_credentials"
    assert await db.fetchval("select count(*) from sessions") == 1
    kinds = await db.fetch("select kind from events where user_id = $1 order by id", user_id)
    assert [kind for (kind,) in kinds] == ["registered", "sign_in_failed"]


async def test_unverified_email_opens_no_session_when_a_verified_one_is_required(
    make_client: MakeClient, db: asyncpg.Connection, dialect: Dialect
) -> None:
    client = await client_without_delivery(
        make_client, require_verified_email=True, realworld_strict=dialect.strict
    )
    user = {"username": "alice", "email": "alice@example.test", "password": "alice-secret"}
    not_verified = {"email": ["is not verified: use the link in the mail"]}
    registered = await client.post("/api/users", {"user": user})
    assert_error(registered, 403, "email_not_verified", not_verified)
    login = await client.post("/api/users/login", {"user": user})
    assert_error(login, 403, "email_not_verified", not_verified)
    assert await db.fetchval("select count(*) from sessions") == 0
    # A wrong password reveals nothing about the email.
    wrong = await client.post("/api/users/login", {"user": {**user, "password": "wrong"}})
    assert wrong.body["code"] == "invalid_credentials"
    kinds = await db.fetch("select kind from events order by id")
    assert [kind for (kind,) in kinds] == ["registered", "sign_in_denied", "sign_in_failed"]
    # The refused login has sent another link.
    assert len(await links(db, "alice@example.test")) == 2
    token = await last_token(db, "alice@example.test")
    assert (await client.post(VERIFY, {"token": token})).status == 200
    assert await client.is_authenticated((await client.sign_in("alice")).access)


async def test_refused_login_sends_no_mail_past_the_limit(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(
        make_client, require_verified_email=True, verification_mail_limit=Limit(2, 3600)
    )
    user = {"username": "alice", "email": "alice@example.test", "password": "alice-secret"}
    await client.post("/api/users", {"user": user})
    for _ in range(3):
        assert (await client.post("/api/users/login", {"user": user})).status == 403
    assert len(await links(db, "alice@example.test")) == 2


async def test_open_session_stays_open_when_a_verified_email_becomes_required(
    make_client: MakeClient,
) -> None:
    token = await (await make_client()).register("alice")
    assert await (await make_client(require_verified_email=True)).is_authenticated(token)


async def test_refusal_of_an_unverified_email_rejects_a_password_that_has_changed(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, require_verified_email=True)
    user = {"username": "alice", "email": "alice@example.test", "password": "alice-secret"}
    await client.post("/api/users", {"user": user})
    app = client.http.app
    assert app is not None
    user_id = await db.fetchval("select id from users")
    row = await sql.users.find_credentials(app[DATABASE], id=user_id)
    await db.execute("update users set password_version = password_version + 1")
    with pytest.raises(Unauthorized):
        await app[SIGN_IN].finish(HttpClient.at("203.0.113.9"), row, PASSWORD)
    assert len(await links(db, "alice@example.test")) == 1
