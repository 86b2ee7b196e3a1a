"""The mails that tell the owner of an account what happened to it."""

import json
from typing import Any

import asyncpg
import pytest

from service.accounts.passwords.hasher import PASSWORDS
from service.accounts.throttling.throttle import NOTICE_LIMIT
from tests.accounts.logins import ELSEWHERE, HERE
from tests.accounts.mailed_links import (
    FORGOT,
    REPORT,
    RESET,
    client_without_delivery,
    last_token,
    links,
    token_of,
)
from tests.conftest import Client, MakeClient

ALICE = "alice@example.test"
SECRET = "alice-secret"


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


async def notices(db: asyncpg.Connection) -> list[tuple[str, str]]:
    """Return recipient and template of the queued mails, without those that verify an email."""
    rows = await db.fetch(
        "select recipient, template from outbox where template <> 'verify_email' "
        "order by created_at, template"
    )
    return [tuple(row) for row in rows]


async def test_changed_password_and_username_are_told(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    headers = {"Accept-Language": "de", "User-Agent": "buy at evil.example"}
    changed = {"user": {"password": "another secret", "username": "evil.example"}}
    response = await client.put("/api/user", changed, token=alice, headers=headers)
    assert response.status == 200
    assert await notices(db) == [(ALICE, "password_changed"), (ALICE, "username_changed")]
    for mail in await db.fetch("select * from outbox where template <> 'verify_email'"):
        values = json.loads(mail["values"])
        assert set(values) == {"time", "ip", "link", "days"}
        assert (mail["language"], values["ip"], values["days"]) == ("de", "127.0.0.1", "7")
        assert "evil" not in mail["values"]


async def test_unchanged_values_send_no_notice(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    user = {"username": "alice", "email": ALICE, "bio": "new", "image": None}
    assert (await client.put("/api/user", {"user": user}, token=alice)).status == 200
    assert await notices(db) == []


async def test_failed_update_sends_no_notice(
    client: Client, alice: str, bob: str, db: asyncpg.Connection
) -> None:
    user = {"username": "bob", "password": "another secret"}
    assert (await client.put("/api/user", {"user": user}, token=alice)).status == 409
    assert await notices(db) == []


async def test_reset_is_told(client: Client, alice: str, db: asyncpg.Connection) -> None:
    await client.post(FORGOT, {"email": ALICE})
    reset = {"token": await last_token(db, ALICE, "reset_password"), "new_password": "a new secret"}
    assert (await client.post(RESET, reset)).status == 200
    assert await notices(db) == [(ALICE, "reset_password"), (ALICE, "password_changed")]


async def test_many_changes_send_a_limited_number_of_notices(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    for number in range(NOTICE_LIMIT.max_count + 3):
        user = {"user": {"username": f"mallory {number}"}}
        assert (await client.put("/api/user", user, token=alice)).status == 200
    assert len(await links(db, ALICE, "username_changed")) == NOTICE_LIMIT.max_count
    changed = {"user": {"password": "another secret"}}
    assert (await client.put("/api/user", changed, token=alice)).status == 200
    assert len(await links(db, ALICE, "password_changed")) == 1


PHONE, PHONE_UPDATED = "Phone/1.0 (os 17)", "Phone/1.2 (os 18)"
LAPTOP = "Laptop/1.0"


async def sign_in(client: Client, user_agent: str, ip: str = HERE, password: str = SECRET) -> int:
    """Log in as Alice with a device, and return the status."""
    user = {"user": {"email": ALICE, "password": password}}
    headers = {"User-Agent": user_agent, "X-Forwarded-For": ip}
    return (await client.post("/api/users/login", user, headers=headers)).status


@pytest.fixture
async def proxied(make_client: MakeClient) -> Client:
    """Return a client behind a proxy, with an account that was registered on the phone."""
    client = await client_without_delivery(make_client, trusted_proxies=1)
    await register(client)
    return client


async def register(client: Client) -> int:
    user = {"user": {"username": "alice", "email": ALICE, "password": SECRET}}
    headers = {"User-Agent": PHONE, "X-Forwarded-For": HERE}
    return (await client.post("/api/users", user, headers=headers)).status


async def test_registration_and_logins_of_a_known_device_are_not_told(
    proxied: Client, db: asyncpg.Connection
) -> None:
    for user_agent in (PHONE, PHONE, PHONE_UPDATED):
        assert await sign_in(proxied, user_agent) == 200
    assert await notices(db) == []


@pytest.mark.parametrize(
    ("user_agent", "ip"), [(LAPTOP, HERE), (PHONE, ELSEWHERE), (LAPTOP, ELSEWHERE)]
)
async def test_first_login_with_a_device_or_ip_address_is_told_once(
    proxied: Client, db: asyncpg.Connection, user_agent: str, ip: str
) -> None:
    for _ in range(2):
        assert await sign_in(proxied, user_agent, ip) == 200
    assert await notices(db) == [(ALICE, "new_sign_in")]
    (values,) = await db.fetchrow("select values from outbox where template = 'new_sign_in'")
    assert json.loads(values)["ip"] == ip and user_agent not in values
    token = token_of(json.loads(values)["link"])
    assert (await proxied.post(REPORT, {"token": token})).status == 200
    assert await sign_in(proxied, PHONE) == 401


async def test_failed_login_makes_no_device_known(proxied: Client, db: asyncpg.Connection) -> None:
    assert await sign_in(proxied, LAPTOP, password="wrong") == 401
    assert await notices(db) == []
    assert await sign_in(proxied, LAPTOP) == 200
    assert await notices(db) == [(ALICE, "new_sign_in")]


async def test_login_that_opens_no_session_is_not_told(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(
        make_client, trusted_proxies=1, session_limit=1, session_limit_policy="deny"
    )
    await register(client)
    assert await sign_in(client, LAPTOP, ELSEWHERE) == 403
    assert await notices(db) == []


async def test_first_login_after_the_verification_of_the_email_is_not_told(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await client_without_delivery(
        make_client, trusted_proxies=1, require_verified_email=True
    )
    assert await register(client) == 403
    await db.execute("update users set email_verified_at = now(), ever_verified = true")
    assert await sign_in(client, PHONE) == 200
    assert await notices(db) == []


async def test_password_change_makes_the_other_ip_addresses_unknown(
    proxied: Client, db: asyncpg.Connection
) -> None:
    assert await sign_in(proxied, PHONE, ELSEWHERE) == 200
    user = {"user": {"email": ALICE, "password": SECRET}}
    headers = {"User-Agent": PHONE, "X-Forwarded-For": HERE}
    response = await proxied.post("/api/users/login", user, headers=headers)
    changed = {"user": {"password": "another secret"}}
    token = response.body["user"]["token"]
    response = await proxied.put("/api/user", changed, token=token, headers=headers)
    assert response.status == 200
    assert len(await links(db, ALICE, "new_sign_in")) == 1
    assert await sign_in(proxied, PHONE, HERE, "another secret") == 200
    assert len(await links(db, ALICE, "new_sign_in")) == 1
    assert await sign_in(proxied, PHONE, ELSEWHERE, "another secret") == 200
    assert len(await links(db, ALICE, "new_sign_in")) == 2


async def test_lockout_email_has_a_link_that_reports(
    proxied: Client, db: asyncpg.Connection
) -> None:
    for _ in range(5):
        assert await sign_in(proxied, LAPTOP, password="wrong") == 401
    token = await last_token(db, ALICE, "lockout")
    assert (await proxied.post(REPORT, {"token": token})).status == 200


async def test_lockout_of_an_unknown_email_issues_no_link(
    client: Client, db: asyncpg.Connection
) -> None:
    for _ in range(5):
        assert await sign_in(client, LAPTOP) == 401
    assert await notices(db) == []
    assert await db.fetchval("select count(*) from one_time_tokens") == 0


async def test_lockout_email_goes_to_the_email_of_that_moment(
    proxied: Client, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report may restore the email while a password is verified."""
    hasher = proxied.http.app[PASSWORDS]
    verify = hasher.verify

    async def verify_and_change(*arguments: Any) -> bool:
        result = bool(await verify(*arguments))
        await db.execute("update users set email = 'new@example.test', email_key = 'new'")
        return result

    for _ in range(4):
        assert await sign_in(proxied, LAPTOP, password="wrong") == 401
    monkeypatch.setattr(hasher, "verify", verify_and_change)
    assert await sign_in(proxied, LAPTOP, password="wrong") == 401
    assert await links(db, ALICE, "lockout") == []
    assert len(await links(db, "new@example.test", "lockout")) == 1
