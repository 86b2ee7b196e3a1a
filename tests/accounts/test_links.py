"""Links are made of settings alone."""

from typing import Any

import asyncpg
import pytest

from service.accounts.links import mailed_link
from service.settings.settings import Settings
from tests.accounts.mailed_links import RESEND, client_without_delivery, links
from tests.conftest import MakeClient

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


@pytest.mark.parametrize("proxies", [0, 1])
async def test_hostile_headers_change_no_link(
    make_client: MakeClient, db: asyncpg.Connection, proxies: int
) -> None:
    client = await client_without_delivery(
        make_client, base_url="https://id.example.org", trusted_proxies=proxies
    )
    user = {"username": "alice", "email": "alice@example.test", "password": "alice-secret"}
    registered = await client.post("/api/users", {"user": user}, headers=HOSTILE)
    token = registered.body["user"]["token"]
    await client.post(RESEND, token=token, headers=HOSTILE)
    found = await links(db, "alice@example.test")
    assert len(found) == 2
    for link in found:
        assert link.startswith("https://id.example.org/api/auth/verify-email?token=")
        assert "evil" not in link
