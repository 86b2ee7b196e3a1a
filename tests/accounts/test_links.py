"""Links are made of settings alone."""

import re
from typing import Any

import asyncpg
import pytest

from service.accounts.links import mailed_link
from service.settings.settings import Settings
from tests.accounts.mailed_links import (
    CONFIRM_CHANGE,
    FORGOT,
    REPORT,
    RESEND,
    VERIFY,
    client_without_delivery,
    last_token,
)
from tests.conftest import Client, MakeClient, Response

HOSTILE = {
    "Host": "evil.example",
    "Forwarded": "for=192.0.2.1;host=evil.example;proto=https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Port": "6666",
    "X-Forwarded-Prefix": "/evil",
    "X-Original-URL": "https://evil.example/",
    "Origin": "https://evil.example",
    "Referer": "https://evil.example/",
}


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"base_url": "https://id.example.org"}, "https://id.example.org/api/auth/verify-email"),
        ({"port": 8080}, "http://localhost:8080/api/auth/verify-email"),
        (
            {"base_url": "https://id.example.org", "frontend_url": "https://example.org/account"},
            "https://example.org/account/verify-email",
        ),
    ],
)
def test_link_begins_with_the_url_of_the_settings(settings: dict[str, Any], start: str) -> None:
    assert mailed_link(Settings(**settings), "verify-email", "a-b_c") == f"{start}?token=a-b_c"


PAGES = {
    "verify_email": "verify-email",
    "reset_password": "reset-password",
    "change_email": "confirm-email-change",
    "username_changed": "report",
    "password_changed": "report",
    "email_changed": "report",
    "new_sign_in": "report",
    "lockout": "report",
    "unlock_login": "unlock-login",
}
"""The page of the link in each mail."""


async def cause_every_mail(client: Client, db: asyncpg.Connection) -> None:
    """Send the requests that queue the mails of ``PAGES``, all with hostile headers."""
    password = {"email": "alice@example.test", "password": "another-secret"}

    async def send(path: str, body: Any, *, status: int = 200, ip: str = "192.0.2.1") -> Response:
        method = "PUT" if path == "/api/user" else "POST"
        headers = {**HOSTILE, "X-Forwarded-For": ip, "User-Agent": f"device {ip}"}
        response = await client.send(method, path, body, token=token, headers=headers)
        assert response.status == status, response.body
        return response

    token: str | None = None
    user = {"username": "alice", "email": "alice@example.test", "password": "alice-secret"}
    token = (await send("/api/users", {"user": user})).body["user"]["token"]
    await send(RESEND, None)
    await send(VERIFY, {"token": await last_token(db, "alice@example.test")})
    await send(FORGOT, {"email": "alice@example.test"})
    await send("/api/user", {"user": {"username": "alicia"}})
    await send("/api/user", {"user": {"password": "another-secret"}})
    await send("/api/users/login", {"user": password}, ip="198.51.100.1")
    wrong = {"user": {**password, "password": "wrong"}}
    for _ in range(5):
        await send("/api/users/login", wrong, status=401, ip="203.0.113.1")
    # The failure that locks the login sends no mail about a lockout.
    blocked = 401 if client.settings.trusted_proxies else 429
    await send("/api/users/login", wrong, status=blocked, ip="203.0.113.2")
    await send("/api/user", {"user": {"email": "new@example.test"}})
    token_of_change = await last_token(db, "new@example.test", "change_email")
    await send(CONFIRM_CHANGE, {"token": token_of_change})
    report = await last_token(db, "alice@example.test", "email_changed")
    await send(REPORT, {"token": report})


@pytest.mark.parametrize("proxies", [0, 1])
async def test_hostile_headers_change_no_link(
    make_client: MakeClient, db: asyncpg.Connection, proxies: int
) -> None:
    client = await client_without_delivery(
        make_client,
        base_url="https://id.example.org",
        trusted_proxies=proxies,
        consecutive_failure_limit=6,
    )
    await cause_every_mail(client, db)
    mails = await db.fetch("select template, values->>'link' as link from outbox")
    # Without a proxy, every request comes from the IP address that the registration made known.
    expected = set(PAGES) if proxies else set(PAGES) - {"new_sign_in", "unlock_login"}
    assert {mail["template"] for mail in mails} == expected
    for mail in mails:
        page, _, token = mail["link"].partition("?token=")
        assert page == f"https://id.example.org/api/auth/{PAGES[mail['template']]}"
        assert re.fullmatch(r"[\w-]{43}", token)
    assert "evil" not in str(await db.fetch("select * from outbox"))
