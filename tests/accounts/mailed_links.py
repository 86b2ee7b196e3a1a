"""Helpers of tests that read the links in queued mails, and use them as a person or a program."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
from aiohttp import FormData

from service.mail.outbox import OUTBOX
from service.settings.rate_limit import NO_LIMIT
from tests.conftest import Client, MakeClient, Response

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
VERIFY = "/api/auth/verify-email"
DECLINE = "/api/auth/verify-email/decline"
RESEND = "/api/auth/verify-email/resend"
CONFIRM_CHANGE = "/api/auth/confirm-email-change"
FORGOT = "/api/auth/forgot-password"
RESET = "/api/auth/reset-password"
REPORT = "/api/auth/report"
UNLOCK = "/api/auth/unlock-login"
UNKNOWN_TOKEN = "A" * 43

BAD_TOKENS: dict[str, Any] = {
    "absent": {},
    "empty": {"token": ""},
    "blank": {"token": " "},
    "null": {"token": None},
    "true": {"token": True},
    "number": {"token": 7},
    "list": {"token": [UNKNOWN_TOKEN]},
    "object": {"token": {"token": UNKNOWN_TOKEN}},
    "long": {"token": "A" * 5000},
    "nul": {"token": "A\0"},
}
"""Bodies of which none has a token."""

TWO_EMAILS: dict[str, Any] = {
    "list": ["alice@example.test", "evil@example.test"],
    "object": {"0": "alice@example.test"},
    "comma": "alice@example.test,evil@example.test",
    "semicolon": "alice@example.test;evil@example.test",
    "space": "alice@example.test evil@example.test",
    "name": "Alice <alice@example.test>",
    "line break": "alice@example.test\nbcc: evil@example.test",
}
"""Values of ``email`` of which none is one email."""


async def client_without_delivery(make_client: MakeClient, **changes: Any) -> Client:
    """Return a client of a service whose outbox keeps its mails, without limits on them."""
    limits = {
        "resend_limit": NO_LIMIT,
        "verification_mail_limit": NO_LIMIT,
        "forgot_password_limits": (NO_LIMIT, NO_LIMIT, NO_LIMIT),
    }
    client = await make_client(**{**limits, **changes})
    await client.http.app[OUTBOX].stop()
    return client


async def links(db: asyncpg.Connection, email: str, template: str = "verify_email") -> list[str]:
    """Return the links in the queued mails to ``email``, the oldest first."""
    rows = await db.fetch(
        "select values from outbox where recipient = $1 and template = $2 order by created_at, id",
        email,
        template,
    )
    return [json.loads(row["values"])["link"] for row in rows]


async def last_token(db: asyncpg.Connection, email: str, template: str = "verify_email") -> str:
    """Return the token in the newest queued mail to ``email``."""
    return token_of((await links(db, email, template))[-1])


def token_of(link: str) -> str:
    """Return the token in ``link``."""
    (token,) = parse_qs(urlsplit(link).query)["token"]
    return token


async def open_page(client: Client, path: str, token: str) -> Response:
    """Open the page of a link in a browser."""
    return await client.get(path, params={"token": token}, headers=BROWSER)


async def submit(client: Client, path: str, **fields: str) -> Response:
    """Send a form as a browser does."""
    return await client.send("POST", path, data=FormData(fields), headers=BROWSER)


async def is_verified(db: asyncpg.Connection, email: str = "alice@example.test") -> bool:
    """Return whether the email of the account that has it is verified."""
    query = "select email_verified_at is not null from users where email = $1"
    return bool(await db.fetchval(query, email))
