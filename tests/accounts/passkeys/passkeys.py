"""Helpers of tests with passkeys: verified accounts, and both ceremonies."""

from typing import Any

import asyncpg

from tests.accounts.passkeys.authenticator import Authenticator
from tests.conftest import Client, Device, Response

PASSKEYS = "/api/user/passkeys"
OPTIONS = "/api/user/passkeys/options"
LOGIN = "/api/users/login/passkey"
LOGIN_OPTIONS = "/api/users/login/passkey/options"


async def open_verified_account(client: Client, db: asyncpg.Connection, name: str) -> Device:
    """Register the user ``name`` with a verified email."""
    device = await client.open_account(name)
    await verify_email(db, name)
    return device


async def verify_email(db: asyncpg.Connection, name: str) -> None:
    query = "update users set email_verified_at = now(), ever_verified = true where username = $1"
    await db.execute(query, name)


async def creation_options(client: Client, token: str) -> Any:
    """Return the options of a registration."""
    response = await client.post(OPTIONS, token=token)
    assert response.status == 200, response
    return response.body["publicKey"]


async def request_options(client: Client, **options: Any) -> Any:
    """Return the options of a login."""
    response = await client.post(LOGIN_OPTIONS, **options)
    assert response.status == 200, response
    return response.body["publicKey"]


async def add(client: Client, token: str, credential: Any, **fields: Any) -> Response:
    return await client.post(PASSKEYS, {"credential": credential, **fields}, token=token)


async def add_passkey(client: Client, token: str, **attributes: Any) -> tuple[Authenticator, str]:
    """Add a passkey to the account of ``token``. Return its authenticator and its id."""
    authenticator = Authenticator(**attributes)
    credential = authenticator.create(await creation_options(client, token))
    response = await add(client, token, credential)
    assert response.status == 201, response
    return authenticator, response.body["passkey"]["id"]


async def log_in(
    client: Client, authenticator: Authenticator, *, ip: str | None = None, **changes: Any
) -> Response:
    """Log in with a passkey. ``changes`` forge the response of the authenticator."""
    headers = {"X-Forwarded-For": ip} if ip is not None else {}
    options = await request_options(client, headers=headers)
    credential = authenticator.get(options, **changes)
    return await client.post(LOGIN, {"credential": credential}, headers=headers)


async def list_passkeys(client: Client, token: str) -> list[dict[str, Any]]:
    response = await client.get(PASSKEYS, token=token)
    assert response.status == 200, response
    passkeys: list[dict[str, Any]] = response.body["passkeys"]
    return passkeys


async def kinds_of_events(client: Client, token: str) -> list[str]:
    """Return the kinds of the events of an account, newest first."""
    response = await client.get("/api/user/events", token=token)
    return [event["kind"] for event in response.body["events"]]
