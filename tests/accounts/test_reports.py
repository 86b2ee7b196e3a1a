"""Report a change with the link "This was not me" in a notice."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from service.accounts import reports
from service.accounts.one_time_tokens import Purpose, issue
from tests.accounts.logins import login
from tests.accounts.mailed_links import (
    BAD_TOKENS,
    FORGOT,
    REPORT,
    RESET,
    UNKNOWN_TOKEN,
    VERIFY,
    client_without_delivery,
    last_token,
    links,
    open_page,
    submit,
    token_of,
)
from tests.accounts.two_instances import TwoInstances, queries_of
from tests.conftest import Client, Dialect, MakeClient
from tests.responses import assert_error

ALICE = "alice@example.test"
EVIL = "evil@example.test"
PASSWORD = "alice-secret"
STOLEN = "a stolen secret"
NEW = "a new secret"
UNKNOWN = {"token": ["not found"]}
KEEPS = "The account keeps this email."
RESTORES = "The email of the account is restored to this one."


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


async def change(client: Client, token: str, **fields: str) -> None:
    """Change the account as a thief with the access token ``token``."""
    assert (await client.put("/api/user", {"user": fields}, token=token)).status == 200


async def move_email(db: asyncpg.Connection, email: str, old: str = ALICE) -> None:
    """Give the account with the email ``old`` another email."""
    await db.execute("update users set email = $1, email_key = $1 where email = $2", email, old)


async def report_token(db: asyncpg.Connection, email: str = ALICE, name: str = "alice") -> str:
    """Issue a token that reports something to ``email`` about the account ``name``."""
    user_id = await db.fetchval("select id from users where username = $1", name)
    return await issue(db, Purpose.REPORT, user_id, email=email, email_key=email)


async def email_of(db: asyncpg.Connection, name: str = "alice") -> str:
    email: str = await db.fetchval("select email from users where username = $1", name)
    return email


async def test_owner_gets_the_account_back_from_a_thief_who_changed_email_and_password(
    make_client: MakeClient, db: asyncpg.Connection, dialect: Dialect
) -> None:
    client = await client_without_delivery(make_client, realworld_strict=dialect.strict)
    alice = await client.open_account("alice")
    await change(client, alice.access, password=STOLEN)
    await move_email(db, EVIL)
    thief = await login(client, "evil", STOLEN)
    assert thief.status == 200
    token = await last_token(db, ALICE, "password_changed")

    response = await client.post(REPORT, {"token": token})
    assert (response.status, response.body) == (200, {"message": reports.REPORTED})
    assert await email_of(db) == ALICE
    for access in (alice.access, thief.body["user"]["token"]):
        rejected = await client.get("/api/user", token=access)
        assert (rejected.status, rejected.body["code"]) == (401, "token_revoked")
    for name, password in (
        ("alice", STOLEN),
        ("alice", PASSWORD),
        ("evil", STOLEN),
        ("alice", "!"),
    ):
        rejected = await login(client, name, password)
        assert_error(rejected, 401, "invalid_credentials", {"credentials": ["invalid"]})
    assert_error(await client.post(REPORT, {"token": token}), 404, "not_found", UNKNOWN)

    reset = {"token": await last_token(db, ALICE, "reset_password"), "new_password": NEW}
    assert (await client.post(RESET, reset)).status == 200
    device = await client.sign_in("alice", NEW)
    events = (await client.get("/api/user/events", token=device.access)).body["events"]
    kinds = [event["kind"] for event in events]
    assert [kind for kind in kinds if kind != "sign_in_failed"][:6] == [
        "signed_in",
        "password_reset",
        "session_ended",
        "session_ended",
        "email_restored",
        "reported",
    ]


async def test_owner_undoes_a_change_of_email_and_password_in_one_request(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    # With the strict dialect a changed email takes effect at once.
    client = await client_without_delivery(make_client, realworld_strict=True)
    stolen = await client.register("alice")
    assert (await client.post(VERIFY, {"token": await last_token(db, ALICE)})).status == 200
    await change(client, stolen, email=EVIL, password=STOLEN, username="mallory")
    assert (await login(client, "evil", STOLEN)).status == 200
    for template in ("password_changed", "username_changed", "email_changed"):
        assert len(await links(db, ALICE, template)) == 1
        assert await links(db, EVIL, template) == []
    token = await last_token(db, ALICE, "password_changed")
    assert (await client.post(REPORT, {"token": token})).status == 200
    assert (await login(client, "evil", STOLEN)).status == 401
    assert (await login(client, "alice", STOLEN)).status == 401
    # The thief cannot reset the password, and the owner can.
    assert (await client.post(FORGOT, {"email": EVIL})).status == 200
    assert await links(db, EVIL, "reset_password") == []
    reset = {"token": await last_token(db, ALICE, "reset_password"), "new_password": NEW}
    assert (await client.post(RESET, reset)).status == 200
    await client.sign_in("alice", NEW)


async def test_logins_of_a_thief_kill_neither_report_nor_reset(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await report_token(db)
    for _ in range(30):
        assert (await login(client, "alice", PASSWORD)).status == 200
    assert (await client.post(REPORT, {"token": token})).status == 200
    reset = {"token": await last_token(db, ALICE, "reset_password"), "new_password": NEW}
    for _ in range(10):
        await login(client, "alice", PASSWORD)
    assert (await client.post(RESET, reset)).status == 200


async def test_report_without_a_changed_email_keeps_it_and_its_verification(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await db.execute("update users set email_verified_at = now(), ever_verified = true")
    await change(client, alice, username="mallory")
    token = await last_token(db, ALICE, "username_changed")
    assert (await client.post(REPORT, {"token": token})).status == 200
    assert await email_of(db, "mallory") == ALICE
    assert await db.fetchval("select email_verified_at is not null from users")
    kinds = await db.fetch("select kind from events")
    assert "email_restored" not in {row["kind"] for row in kinds}
    assert len(await links(db, ALICE, "reset_password")) == 1


async def test_restored_email_is_not_verified_before_the_reset(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await db.execute("update users set email_verified_at = now(), ever_verified = true")
    token = await report_token(db)
    await move_email(db, EVIL)
    assert (await client.post(REPORT, {"token": token})).status == 200
    assert await db.fetchval("select email_verified_at is null from users")


async def test_report_ends_sessions_that_another_process_has_cached(
    instances: TwoInstances, db: asyncpg.Connection
) -> None:
    token = await report_token(db)
    assert (await instances.first.post(REPORT, {"token": token})).status == 200
    assert (await instances.after_sync()).status == 401


async def test_report_changes_the_version_of_the_password(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    version = await db.fetchval("select password_version from users")
    assert (await client.post(REPORT, {"token": await report_token(db)})).status == 200
    assert await db.fetchval("select password_version from users") == version + 1


async def test_concurrent_uses_of_one_link_report_once(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await report_token(db)
    uses = (client.post(REPORT, {"token": token}) for _ in range(100))
    responses = await asyncio.gather(*uses)
    assert Counter(response.status for response in responses) == {200: 1, 404: 99}
    assert len(await links(db, ALICE, "reset_password")) == 1


async def test_report_kills_every_other_mailed_link(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    verification = await last_token(db, ALICE)
    token = await report_token(db)
    await client.post(FORGOT, {"email": ALICE})
    reset = await last_token(db, ALICE, "reset_password")
    newer = await report_token(db)
    assert (await client.post(REPORT, {"token": token})).status == 200
    assert (await client.post(VERIFY, {"token": verification})).status == 404
    dead = {"token": reset, "new_password": NEW}
    assert (await client.post(RESET, dead)).status == 404
    assert (await client.post(REPORT, {"token": newer})).status == 404


async def test_report_of_a_thief_keeps_the_older_report_of_the_owner(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    owner = await report_token(db)
    await move_email(db, EVIL)
    thief = await report_token(db, EVIL)
    await move_email(db, "evil2@example.test", EVIL)
    assert (await client.post(REPORT, {"token": thief})).status == 200
    assert await email_of(db) == EVIL
    assert (await client.post(REPORT, {"token": owner})).status == 200
    assert await email_of(db) == ALICE


async def test_many_notices_to_a_thief_keep_the_report_of_the_owner(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    owner = await report_token(db)
    for _ in range(2 * Purpose.REPORT.max_count):
        await report_token(db, EVIL)
    counts = await db.fetch("select email, count(*) from one_time_tokens where purpose = 'report' "
                            "group by email")  # fmt: skip
    assert dict(counts) == {ALICE: 1, EVIL: Purpose.REPORT.max_count}
    assert (await client.post(REPORT, {"token": owner})).status == 200


async def test_password_change_and_reset_keep_the_report(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await report_token(db)
    await change(client, alice, password=STOLEN)
    await client.post(FORGOT, {"email": ALICE})
    reset = {"token": await last_token(db, ALICE, "reset_password"), "new_password": NEW}
    assert (await client.post(RESET, reset)).status == 200
    assert (await client.post(REPORT, {"token": token})).status == 200


async def test_email_of_another_account_is_not_restored_but_the_thief_is_logged_out(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await report_token(db)
    await move_email(db, EVIL)
    await db.execute(
        "insert into users (username, username_key, email, email_key, password_hash) "
        "values ('bob', 'bob', $1, $1, '')",
        ALICE,
    )
    taken = {"email": ["has already been taken"]}
    for _ in range(2):
        assert_error(await client.post(REPORT, {"token": token}), 409, "already_taken", taken)
    page = await submit(client, REPORT, token=token)
    assert page.status == 409 and "<h1>Another account has this email now</h1>" in page.body
    assert not await client.is_authenticated(alice)
    assert (await login(client, "evil", PASSWORD)).status == 401
    assert (await email_of(db), await email_of(db, "bob")) == (EVIL, ALICE)
    assert await links(db, ALICE, "reset_password") == []
    # The owner of the email changes that of the other account. The link still works.
    await db.execute("update users set email = 'b', email_key = 'b' where username = 'bob'")
    assert (await client.post(REPORT, {"token": token})).status == 200
    assert await email_of(db) == ALICE


async def test_unknown_and_expired_links_are_told_apart(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token, other = await report_token(db), await last_token(db, ALICE)
    await db.execute("update one_time_tokens set expires_at = now() where purpose = 'report'")
    for unknown in (UNKNOWN_TOKEN, other):
        assert_error(await client.post(REPORT, {"token": unknown}), 404, "not_found", UNKNOWN)
        assert (await open_page(client, REPORT, unknown)).status == 404
    expired = await client.post(REPORT, {"token": token})
    assert_error(expired, 410, "link_expired", {"token": ["has expired"]})
    assert await client.is_authenticated(alice)
    # The token of another purpose was not used.
    assert (await client.post(VERIFY, {"token": other})).status == 200


async def test_link_of_a_deleted_account_is_unknown(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await report_token(db)
    body = {"user": {"password": PASSWORD}}
    assert (await client.delete("/api/user", body, token=alice)).status == 204
    assert_error(await client.post(REPORT, {"token": token}), 404, "not_found", UNKNOWN)
    assert (await open_page(client, REPORT, token)).status == 404


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_token_that_cannot_be_one_is_rejected_without_a_query(
    client: Client, alice: str, monkeypatch: pytest.MonkeyPatch, bad: Any
) -> None:
    names = queries_of(monkeypatch)
    response = await client.post(REPORT, bad)
    assert (response.status, response.body["code"]) == (400, "invalid_input")
    assert set(response.body["errors"]) == {"token"}
    assert names == []


async def test_fields_beside_the_token_are_ignored(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    bob_id = str(await db.fetchval("select id from users where username = 'bob'"))
    others = {"email": "bob@example.test", "user": {"id": bob_id}, "id": bob_id, "user_id": bob_id}
    assert (await client.post(REPORT, {**others, "token": await report_token(db)})).status == 200
    assert await client.is_authenticated(bob) and not await client.is_authenticated(alice)
    assert await email_of(db, "bob") == "bob@example.test"


async def test_opening_the_page_uses_no_link_and_says_what_happens(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    token = await report_token(db)
    for _ in range(3):
        page = await open_page(client, REPORT, token)
        assert page.status == 200 and KEEPS in page.body and "<script" not in page.body
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        async with client.http.head(REPORT, params={"token": token}) as head:
            assert head.status == 200
        async with client.http.options(REPORT, params={"token": token}) as options:
            assert options.status == 405
    assert await client.is_authenticated(alice)
    await move_email(db, EVIL)
    page = await open_page(client, REPORT, token)
    assert RESTORES in page.body and ALICE in page.body and EVIL not in page.body
    assert (await client.post(REPORT, {"token": token})).status == 200


async def test_form_reports_with_a_page(client: Client, alice: str, db: asyncpg.Connection) -> None:
    token = await report_token(db)
    page = await submit(client, REPORT, token=token, email="evil@example.test")
    assert page.status == 200 and "<h1>Your account is safe again</h1>" in page.body
    assert not await client.is_authenticated(alice)
    again = await submit(client, REPORT, token=token)
    assert again.status == 404 and "<h1>This link is not valid</h1>" in again.body


async def test_front_end_has_the_page_of_the_link(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(make_client, frontend_url="https://example.org/account")
    token = await client.register("alice")
    await change(client, token, username="mallory")
    (link,) = await links(db, ALICE, "username_changed")
    assert link == f"https://example.org/account/report?token={token_of(link)}"
