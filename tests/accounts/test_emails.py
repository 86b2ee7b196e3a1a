"""The owner is told by mail that logins are refused: once in a while, and nobody else is."""

from collections import Counter

import asyncpg
import pytest

from service.mail.outbox import OUTBOX
from tests.accounts.logins import ELSEWHERE, HERE, end_windows, login, statuses
from tests.conftest import Client, MakeClient


async def lock(client: Client, name: str, address: str = HERE) -> None:
    """Guess until a limit of the account is met."""
    guesses = (login(client, name, ip=address) for _ in range(20))
    assert await statuses(*guesses) == {401: 5, 429: 15}


async def told(db: asyncpg.Connection) -> Counter[str]:
    """How many mails wait for whom."""
    return Counter(row["recipient"] for row in await db.fetch("select recipient from outbox"))


async def silent(make_client: MakeClient, **changes: object) -> Client:
    """A service behind one proxy whose outbox keeps what it is given."""
    client = await make_client(trusted_proxies=1, **changes)
    await client.http.app[OUTBOX].stop()
    return client


async def test_the_owner_is_told_of_a_lockout(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await silent(make_client)
    await client.register("alice")
    await lock(client, "ALICE")
    (mail,) = await db.fetch("select recipient, subject, body from outbox")
    assert mail["recipient"] == "alice@example.test"
    assert mail["subject"] == "Too many failed logins to your account"
    assert f"UTC from the IP address {HERE}.\n" in mail["body"]
    assert "If it was you, try again in 60 minutes.\n" in mail["body"]


async def test_the_owner_is_told_once_in_an_hour_whoever_guesses_from_wherever(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await silent(make_client)
    await client.register("alice")
    await lock(client, "alice", HERE)
    await lock(client, "alice", ELSEWHERE)
    assert await told(db) == {"alice@example.test": 1}
    await end_windows(db)
    await lock(client, "alice", HERE)
    assert await told(db) == {"alice@example.test": 2}


async def test_a_guess_below_the_limit_is_no_news(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await silent(make_client)
    await client.register("alice")
    assert await statuses(*(login(client, "alice") for _ in range(4))) == {401: 4}
    assert await told(db) == {}


async def test_an_address_that_nobody_registered_gets_no_mail(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    await lock(await silent(make_client), "nobody")
    assert await told(db) == {}


async def test_mails_about_lockouts_can_be_off(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await silent(make_client, lockout_mail_interval=0)
    await client.register("alice")
    await lock(client, "alice")
    assert await told(db) == {}


async def test_a_failure_counts_also_where_the_news_of_it_cannot_be_kept(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    """The lines in the log and the mail come together or not at all; the guess was made."""
    client = await silent(make_client)
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
async def test_a_strangers_words_do_not_travel_in_our_mail(
    make_client: MakeClient, db: asyncpg.Connection, user_agent: str
) -> None:
    client = await silent(make_client)
    await client.register("alice", username="visit evil.example")
    for _ in range(5):
        user = {"email": "alice@example.test", "password": "wrong"}
        headers = {"User-Agent": user_agent, "X-Forwarded-For": HERE}
        await client.post("/api/users/login", {"user": user}, headers=headers)
    (mail,) = await db.fetch("select subject, body from outbox")
    assert "evil" not in mail["subject"] + mail["body"]
