"""Request a mail that resets the password."""

import asyncio
import random
import time
from collections import Counter
from typing import Any

import asyncpg
import pytest

import sql
from service.accounts.passwords import reset
from service.accounts.passwords.reset import SENT
from service.logs import REQUEST_ID
from service.settings.rate_limit import NO_LIMIT, Limit
from tests.accounts.logins import ELSEWHERE, HERE, login
from tests.accounts.mailed_links import (
    BROWSER,
    FORGOT,
    RESET,
    TWO_EMAILS,
    client_without_delivery,
    last_token,
    links,
    token_of,
)
from tests.accounts.test_links import HOSTILE
from tests.conftest import Client, MakeClient, Response
from tests.responses import assert_error

ALICE, NOBODY = "alice@example.test", "nobody@example.test"
NEW = "a new secret"
TOO_MANY = {"email": ["too many attempts"]}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await client_without_delivery(make_client)


async def limited(make_client: MakeClient, *limits: Limit) -> Client:
    """Return a client behind a proxy, with these limits."""
    return await client_without_delivery(
        make_client, forgot_password_limits=limits, trusted_proxies=1
    )


async def forgot(client: Client, email: str = ALICE, *, ip: str = HERE) -> Response:
    """Request a link from the IP address ``ip``, which has an effect only behind a proxy."""
    return await client.post(FORGOT, {"email": email}, headers={"X-Forwarded-For": ip})


async def reset_links(db: asyncpg.Connection, email: str = ALICE) -> list[str]:
    return await links(db, email, "reset_password")


def comparable(response: Response) -> Any:
    """Return everything in a response that does not differ between any two requests."""
    headers = {
        name: value
        for name, value in response.headers.items()
        if name not in ("Date", "X-Request-ID", "Retry-After")
    }
    return response.status, response.body, headers


async def test_request_sends_a_link_to_the_email_of_the_account(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    response = await client.post(
        FORGOT, {"email": "ALICE@Example.test"}, headers={"Accept-Language": "de-AT"}
    )
    assert (response.status, response.body) == (200, {"message": SENT})
    (link,) = await reset_links(db)
    assert link.startswith("http://localhost:3000/api/auth/reset-password?token=")
    language = "select language from outbox where template = 'reset_password'"
    assert await db.fetchval(language) == "de"
    assert (await client.get(RESET, params={"token": token_of(link)})).status == 200


async def test_known_and_unknown_emails_get_the_same_responses(
    make_client: MakeClient, alice: str, db: asyncpg.Connection
) -> None:
    client = await limited(make_client, Limit(3, 900), NO_LIMIT, NO_LIMIT)
    known, unknown = [
        [comparable(await forgot(client, email, ip=ELSEWHERE)) for _ in range(5)]
        for email in (ALICE, NOBODY)
    ]
    assert known == unknown
    assert [status for status, *_ in known] == [200, 200, 200, 429, 429]
    assert len(await reset_links(db)) == 3
    assert await db.fetchval("select count(*) from outbox where recipient = ''") == 0
    assert await db.fetchval("select count(*) from one_time_tokens where email = ''") == 0


async def test_known_and_unknown_emails_run_the_same_statements(
    client: Client, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    run = sql.Query.__call__

    async def noting(query: sql.Query, *arguments: Any, **named: Any) -> Any:
        if REQUEST_ID.get() is not None:  # Background tasks run queries too.
            names.append(query.name)
        return await run(query, *arguments, **named)

    monkeypatch.setattr(sql.Query, "__call__", noting)
    statements = []
    for email in (ALICE, NOBODY):
        await forgot(client, email)
        statements.append(names.copy())
        names.clear()
    assert statements[0] == statements[1]
    assert statements[0][-3:] == ["insert", "write", "insert"]


async def test_known_and_unknown_emails_take_the_same_time(
    make_client: MakeClient, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare 200 interleaved requests by rank: a difference of four standard deviations fails."""
    monkeypatch.setattr(reset, "RESPONSE_TIME", 0.025)
    client = await limited(make_client, Limit(9, 900), Limit(999, 900), Limit(9, 900))
    names = [f"user{number}" for number in range(100)]
    for name in names:
        await client.register(name)
    emails = [(f"{name}@example.test", True) for name in names]
    emails += [(f"unknown{number}@example.test", False) for number in range(100)]
    for number in range(20):  # Statements are prepared at their first use.
        await forgot(client, f"warm{number}@example.test")
    random.shuffle(emails)
    timed = []
    for email, is_known in emails:
        started = time.perf_counter()
        assert (await forgot(client, email)).status == 200
        timed.append((time.perf_counter() - started, is_known))
    assert abs(share_of_slower(timed) - 0.5) < 0.17
    assert await db.fetchval("select count(*) from outbox where template like 'reset%'") == 100


def share_of_slower(timed: list[tuple[float, bool]]) -> float:
    """Return the share of pairs in which the request with the known email took longer.

    It is 0.5 for equal distributions, with a standard deviation of 0.041 for 100 and 100 requests
    (Mann and Whitney).
    """
    known = [seconds for seconds, is_known in timed if is_known]
    unknown = [seconds for seconds, is_known in timed if not is_known]
    slower = sum(one > other for one in known for other in unknown)
    return slower / (len(known) * len(unknown))


async def test_response_time_is_rounded_up_also_past_a_limit(
    make_client: MakeClient, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reset, "RESPONSE_TIME", 0.3)
    client = await limited(make_client, Limit(1, 900), NO_LIMIT, NO_LIMIT)
    for email, status in ((ALICE, 200), (NOBODY, 200), (ALICE, 429), (NOBODY, 429)):
        started = time.perf_counter()
        assert (await forgot(client, email)).status == status
        assert time.perf_counter() - started >= 0.3


@pytest.mark.parametrize("proxies", [0, 1])
async def test_hostile_headers_change_no_link(
    make_client: MakeClient, alice: str, db: asyncpg.Connection, proxies: int
) -> None:
    client = await client_without_delivery(
        make_client, base_url="https://id.example.org", trusted_proxies=proxies
    )
    assert (await client.post(FORGOT, {"email": ALICE}, headers=HOSTILE)).status == 200
    (link,) = await reset_links(db)
    assert link.startswith("https://id.example.org/api/auth/reset-password?token=")
    assert "evil" not in str(await db.fetch("select * from outbox"))


@pytest.mark.parametrize("email", [*TWO_EMAILS.values(), None, "", True], ids=str)
async def test_email_that_is_not_one_email_is_rejected_without_a_mail(
    client: Client, alice: str, db: asyncpg.Connection, email: Any
) -> None:
    response = await client.post(FORGOT, {"email": email})
    assert (response.status, set(response.body["errors"])) == (400, {"email"})
    assert await reset_links(db) == []


@pytest.mark.parametrize("second", ['"email"', '"\\u0065mail"'])
async def test_email_given_twice_is_rejected_without_a_mail(
    client: Client, alice: str, db: asyncpg.Connection, second: str
) -> None:
    raw = f'{{"email": "evil@example.test", {second}: "{ALICE}"}}'
    response = await client.send("POST", FORGOT, data=raw)
    assert_error(response, 400, "invalid_input", {"email": ["must be given once"]})
    assert await reset_links(db) == []


async def test_form_is_not_accepted(client: Client, alice: str, db: asyncpg.Connection) -> None:
    """Another site can send a form in the browser of a person, but not JSON."""
    response = await client.send("POST", FORGOT, data={"email": ALICE}, headers=BROWSER)
    assert response.status == 400 and await reset_links(db) == []


@pytest.mark.parametrize(
    "given",
    ["alice＠example.test", "al\u200bice@example.test", "al\u00adice@example.test"],
    ids=["fullwidth at-sign", "zero-width space", "soft hyphen"],
)
async def test_mail_goes_only_to_the_stored_email(
    client: Client, alice: str, db: asyncpg.Connection, given: str
) -> None:
    await db.execute("delete from outbox")
    assert (await forgot(client, given)).status == 200
    assert await db.fetchval("select array_agg(recipient) from outbox") == [ALICE]


async def test_request_for_an_email_that_was_changed_sends_nothing(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await db.execute("update users set email = 'new@example.test', email_key = 'new@example.test'")
    assert (await forgot(client)).status == 200
    assert await reset_links(db) == []
    await forgot(client, "new@example.test")
    assert len(await reset_links(db, "new@example.test")) == 1


async def test_request_for_a_deleted_account_sends_nothing(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    deletion = {"user": {"password": "alice-secret"}}
    assert (await client.delete("/api/user", deletion, token=alice)).status == 204
    assert (await forgot(client)).status == 200
    assert await reset_links(db) == []


async def test_concurrent_requests_send_at_most_the_limit(
    make_client: MakeClient, alice: str, db: asyncpg.Connection
) -> None:
    client = await limited(make_client, Limit(3, 900), NO_LIMIT, NO_LIMIT)
    responses = await asyncio.gather(*(forgot(client) for _ in range(20)))
    assert Counter(response.status for response in responses) == {200: 3, 429: 17}
    rejected = next(response for response in responses if response.status == 429)
    assert_error(rejected, 429, "too_many_attempts", TOO_MANY)
    assert 0 < int(rejected.headers["Retry-After"]) <= 900
    assert len(await reset_links(db)) == 3


async def test_concurrent_requests_leave_the_links_of_the_five_latest_mails_valid(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await asyncio.gather(*(forgot(client) for _ in range(20)))
    assert (
        await db.fetchval("select count(*) from one_time_tokens where purpose like 'reset%'") == 5
    )
    assert len(await reset_links(db)) == 20


async def test_each_limit_counts_the_requests_that_it_names(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await limited(make_client, Limit(2, 900), Limit(5, 900), Limit(3, 900))
    statuses = [(await forgot(client, "a@example.test")).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    # The third request counted for the IP address.
    statuses = [(await forgot(client, f"{name}@example.test")).status for name in "bcd"]
    assert statuses == [200, 200, 429]
    statuses = [(await forgot(client, "a@example.test", ip=f"192.0.2.{n}")).status for n in (5, 6)]
    assert statuses == [200, 429]


async def test_stranger_cannot_keep_the_mail_from_a_known_ip_address(
    make_client: MakeClient, db: asyncpg.Connection
) -> None:
    client = await limited(make_client, Limit(5, 900), Limit(50, 900), Limit(10, 900))
    user = {"username": "alice", "email": ALICE, "password": "alice-secret"}
    await client.post("/api/users", {"user": user}, headers={"X-Forwarded-For": HERE})
    strangers = [(await forgot(client, ip=f"203.0.113.{n}")).status for n in range(11)]
    assert strangers == [200] * 10 + [429]
    assert (await forgot(client, ip=HERE)).status == 200
    assert len(await reset_links(db)) == 11


async def test_past_the_limit_of_the_email_the_owner_has_valid_links(
    make_client: MakeClient, alice: str, db: asyncpg.Connection
) -> None:
    client = await limited(make_client, Limit(5, 900), Limit(50, 900), Limit(10, 900))
    for number in range(11):
        await forgot(client, ip=f"203.0.113.{number}")
    assert (await forgot(client, ip=ELSEWHERE)).status == 429
    for link in (await reset_links(db))[-5:]:
        assert (await client.get(RESET, params={"token": token_of(link)})).status == 200


async def test_thief_who_knows_the_password_cannot_keep_the_mail_away(
    make_client: MakeClient, alice: str, db: asyncpg.Connection
) -> None:
    client = await limited(make_client, Limit(5, 900), Limit(50, 900), Limit(10, 900))
    for number in range(11):
        await forgot(client, ip=f"203.0.113.{number}")
    token = await last_token(db, ALICE, "reset_password")
    # Logins kill no link.
    for _ in range(10):
        thief = await login(client, "alice", "alice-secret", ip="203.0.113.99")
        assert thief.status == 200
    assert (await client.get(RESET, params={"token": token})).status == 200
    # A changed password does, and then another mail may be sent.
    changed = {"user": {"password": "of the thief"}}
    access = thief.body["user"]["token"]
    assert (await client.put("/api/user", changed, token=access)).status == 200
    assert (await client.get(RESET, params={"token": token})).status == 404
    assert (await forgot(client, ip=ELSEWHERE)).status == 200
    token = await last_token(db, ALICE, "reset_password")
    assert (await client.post(RESET, {"token": token, "new_password": NEW})).status == 200
    # Repeated changes allow one more mail each, not ten.
    assert [(await forgot(client, ip=f"203.0.113.{n}")).status for n in (1, 2)] == [200, 429]


async def test_request_counts_no_rejected_email(make_client: MakeClient, alice: str) -> None:
    client = await limited(make_client, Limit(1, 900), Limit(1, 900), Limit(1, 900))
    for _ in range(3):
        assert (await client.post(FORGOT, {"email": "alice"})).status == 400
    assert (await forgot(client)).status == 200
