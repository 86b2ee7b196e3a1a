"""Helpers of tests that lock the login of Alice and unlock it with a mailed link."""

from typing import Any

import asyncpg

from service.settings.rate_limit import Limit
from tests.accounts.mailed_links import client_without_delivery, last_token, links
from tests.conftest import Client, Device, MakeClient

EMAIL = "alice@example.test"
HOME = "192.0.2.1"
"""The IP address where Alice registers, which is known."""
STRANGER = "203.0.113.9"
HIGH = Limit(10_000, 900)


async def client_that_locks(make_client: MakeClient, **changes: Any) -> Client:
    """Return a client behind one proxy of a service that locks a login after five failures.

    Its other limits count attempts, but reject none.
    """
    settings = {
        "trusted_proxies": 1,
        "consecutive_failure_limit": 5,
        "login_limits": (HIGH, HIGH, HIGH),
    }
    return await client_without_delivery(make_client, **{**settings, **changes})


async def register_alice(client: Client) -> Device:
    """Register Alice at home."""
    user = {"username": "alice", "email": EMAIL, "password": "alice-secret"}
    return Device.of(await client.post("/api/users", {"user": user}, headers=at(HOME)))


def at(ip: str) -> dict[str, str]:
    """Return the headers of a request from ``ip``."""
    return {"X-Forwarded-For": ip}


async def attempt(client: Client, password: str, ip: str = STRANGER, email: str = EMAIL) -> int:
    """Log in as Alice, and return the status."""
    user = {"email": email, "password": password}
    response = await client.post("/api/users/login", {"user": user}, headers=at(ip))
    return response.status


async def fail(client: Client, times: int, ip: str = STRANGER) -> None:
    """Fail logins of Alice, one after the other."""
    for _ in range(times):
        assert await attempt(client, "wrong", ip) == 401


async def unlock_token(db: asyncpg.Connection, email: str = EMAIL) -> str:
    """Return the token in the newest mail that unlocks the login."""
    return await last_token(db, email, "unlock_login")


async def count_mails(db: asyncpg.Connection, email: str = EMAIL) -> int:
    """Return the number of mails that unlock the login."""
    return len(await links(db, email, "unlock_login"))
