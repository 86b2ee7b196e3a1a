"""Helpers of tests that read the links in queued mails, and use them as a person or a program."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
from aiohttp import FormData

from service.mail.outbox import OUTBOX
from tests.conftest import Client, MakeClient, Response

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
VERIFY = "/api/auth/verify-email"
DECLINE = "/api/auth/verify-email/decline"
RESEND = "/api/auth/verify-email/resend"
UNKNOWN_TOKEN = "A" * 43


async def client_without_delivery(make_client: MakeClient, **changes: Any) -> Client:
    """Return a client of a service whose outbox keeps its mails, without limits on them."""
    limits = {"resend_limit": (0, 0), "verification_mail_limit": (0, 0)}
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
