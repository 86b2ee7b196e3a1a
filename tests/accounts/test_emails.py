"""The lockout email: who gets it, how often, and what it contains."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.accounts.lockout_emails import queued, without_delivery
from tests.accounts.logins import ELSEWHERE, HERE, end_windows, login, statuses
from tests.conftest import Client, MakeClient


async def lock(client: Client, name: str, ip: str = HERE) -> None:
    """Send wrong passwords until a limit of the account is reached."""
    guesses = (login(client, name, ip=ip) for _ in range(20))
    assert await statuses(*guesses) == {401: 5, 429: 15}


async def test_lockout_sends_an_email_to_the_owner(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await without_delivery(make_client)
    await client.register("alice")
    await lock(client, "ALICE")
    (mail,) = await db.fetch(
        "select recipient, template, language, values from outbox where template = 'lockout'"
    )
    assert tuple(mail)[:3] == ("alice@example.test", "lockout", "en")
    values = json.loads(mail["values"])
    time = datetime.strptime(values.pop("time"), "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    assert timedelta(0) <= datetime.now(UTC) - time < timedelta(minutes=2)
    assert urlsplit(values.pop("link")).path == "/api/auth/report"
    assert values == {"ip": HERE, "minutes": "60", "days": "7"}


async def test_lockout_email_has_the_language_of_the_last_failed_login(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await without_delivery(make_client)
    await client.register("alice")
    user = {"email": "alice@example.test", "password": "wrong"}
    for language in ("en", "en", "en", "en", "de-AT, en;q=0.8"):
        headers = {"Accept-Language": language, "X-Forwarded-For": HERE}
        await client.post("/api/users/login", {"user": user}, headers=headers)
    languages = await db.fetch("select template, language from outbox order by created_at")
    assert [tuple(row) for row in languages] == [("verify_email", "en"), ("lockout", "de")]


async def test_lockout_email_is_sent_at_most_once_per_interval(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await without_delivery(make_client)
    await client.register("alice")
    await lock(client, "alice", HERE)
    await lock(client, "alice", ELSEWHERE)
    assert await queued(db) == {"alice@example.test": 1}
    await end_windows(db)
    await lock(client, "alice", HERE)
    assert await queued(db) == {"alice@example.test": 2}


async def test_failures_below_the_limit_send_no_email(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await without_delivery(make_client)
    await client.register("alice")
    assert await statuses(*(login(client, "alice") for _ in range(4))) == {401: 4}
    assert await queued(db) == {}


async def test_lockout_sends_no_email_when_the_account_does_not_exist(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    await lock(await without_delivery(make_client), "nobody")
    assert await queued(db) == {}


async def test_lockout_sends_no_email_when_the_interval_is_zero(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await without_delivery(make_client, lockout_mail_interval=0)
    await client.register("alice")
    await lock(client, "alice")
    assert await queued(db) == {}


async def test_failure_is_counted_when_its_events_and_email_cannot_be_written(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    """Events and email are written in one transaction. The failure is counted in any case."""
    client = await without_delivery(make_client)
    await client.register("alice")
    assert await statuses(*(login(client, "alice") for _ in range(4))) == {401: 4}
    await db.execute("alter table outbox rename to outbox_away")
    try:
        assert (await login(client, "alice")).status == 500
    finally:
        await db.execute("alter table outbox_away rename to outbox")
    kinds = Counter(row["kind"] for row in await db.fetch("select kind from events"))
    assert kinds == {"registered": 1, "sign_in_failed": 4}
    assert (await login(client, "alice", "alice-secret")).status == 429


@pytest.mark.parametrize("user_agent", ["Click here: http://evil.example"])
async def test_lockout_email_contains_no_text_of_the_attacker(
    make_client: MakeClient, db: asyncpg.Connection, user_agent: str
) -> None:
    client = await without_delivery(make_client)
    await client.register("alice", username="visit evil.example")
    for _ in range(5):
        user = {"email": "alice@example.test", "password": "wrong"}
        headers = {"User-Agent": user_agent, "X-Forwarded-For": HERE}
        await client.post("/api/users/login", {"user": user}, headers=headers)
    (mail,) = await db.fetch("select values from outbox where template = 'lockout'")
    assert HERE in mail["values"] and "evil" not in mail["values"]


async def test_verification_email_says_when_and_from_where_in_the_language_of_the_request(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await without_delivery(make_client)
    user = {"username": "visit evil.example", "email": "a@example.test", "password": "a-secret"}
    headers = {"Accept-Language": "de", "X-Forwarded-For": HERE, "User-Agent": "evil.example"}
    await client.post("/api/users", {"user": user}, headers=headers)
    (mail,) = await db.fetch("select recipient, template, language, values from outbox")
    assert tuple(mail)[:3] == ("a@example.test", "verify_email", "de")
    values = json.loads(mail["values"])
    assert values.keys() == {"time", "ip", "link", "hours", "can_decline"}
    assert (values["ip"], values["hours"]) == (HERE, "24")
    assert "evil" not in mail["values"]
