"""The services of docs/tokens.md that ask for the truth, and that listen to changes."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from service.accounts.administration.api_keys import create_key
from service.accounts.administration.roles import change_roles
from service.database.pool import DATABASE
from tests.accounts.account_locks import ADMINISTRATOR, id_of, lock
from tests.accounts.sessions.keys_of_tokens import claims_of
from tests.accounts.sessions.second_service import AUDIENCE, TwoServices, load, start_accounts
from tests.conftest import Client

PASSWORD = "chosen by the test"
CREATE_ROLE = "create role {} login password '" + PASSWORD + "' connection limit 10"


@pytest.fixture
async def accounts(
    db: asyncpg.Connection, aiohttp_client: Any, database_url: str, tmp_path: Path
) -> Client:
    return await start_accounts(
        aiohttp_client, database_url, tmp_path, token_algorithm="EdDSA", user_cache_size=100
    )


async def make_environment(accounts: Client) -> dict[str, str]:
    app = accounts.http.app
    assert app is not None
    key = await create_key(app[DATABASE], "shop", ["tokens:introspect"])
    return {"ISSUER": accounts.settings.public_url, "AUDIENCE": AUDIENCE, "API_KEY": key}


@pytest.fixture
async def asking(
    accounts: Client, aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch
) -> TwoServices:
    """Return the service that asks for each token."""
    module = load("by_introspection", monkeypatch, **await make_environment(accounts))
    return TwoServices(accounts, module, await aiohttp_client(module.app))


async def test_asking_service_sees_the_user_as_they_are_now(
    asking: TwoServices, db: asyncpg.Connection
) -> None:
    token = await asking.accounts.register("alice")
    user = claims_of(token)["sub"]
    await db.execute("update users set roles = '{editor}'")
    assert await asking.ask(f"Token {token}") == (200, {"user": user, "roles": ["editor"]})
    for authorization in ("", "Token", f"Bearer {token}", f"Token {token}x"):
        assert await asking.ask(authorization) == (401, None)
    await asking.accounts.post("/api/auth/logout", token=token)
    assert await asking.ask(f"Token {token}") == (401, None)


@pytest.fixture
async def feed_url(db: asyncpg.Connection, database_url: str) -> AsyncIterator[str]:
    """Yield the URL of a role that can only listen."""
    name = f"feed_{uuid4().hex}"
    await db.execute(CREATE_ROLE.format(name))
    parts = urlsplit(database_url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{name}:{PASSWORD.replace(' ', '%20')}@{host}"
    yield urlunsplit(parts._replace(netloc=netloc))
    await db.execute(f"drop role {name}")


@pytest.fixture
async def listening(
    accounts: Client, aiohttp_client: Any, feed_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TwoServices]:
    """Yield the service that listens to changes."""
    environment = {**await make_environment(accounts), "FEED_URL": feed_url}
    for name in ("by_keys", "by_introspection"):
        load(name, monkeypatch, **environment)
    module = load("by_feed", monkeypatch, **environment)
    client = await aiohttp_client(module.app)
    services = TwoServices(accounts, module, client)
    await until_heard(services)
    yield services
    await client.close()


async def until_heard(services: TwoServices) -> None:
    async with asyncio.timeout(20):
        while services.module.heard_until <= time.time():
            await asyncio.sleep(0)


async def until_changed(services: TwoServices, subject: str, earlier: float = 0.0) -> None:
    """Wait until the other service has heard of a change of a user or session."""
    async with asyncio.timeout(20):
        while services.module.changed.get(subject, 0.0) <= earlier:
            await asyncio.sleep(0)


def introspections(services: TwoServices) -> int:
    return services.accounts.log.getvalue().count('"/api/auth/introspect"')


async def test_role_of_the_feed_can_read_nothing(feed_url: str, db: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(feed_url)
    names = "select format('%I.%I', schemaname, tablename) as name from pg_tables"
    tables = await db.fetch(f"{names} where schemaname = 'public'")
    assert len(tables) > 20
    for table in tables:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"select from {table['name']}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("create table public.things ()")
    await connection.close()


async def test_listening_service_asks_once_and_again_after_a_change(
    listening: TwoServices, db: asyncpg.Connection
) -> None:
    accounts = listening.accounts
    token = await accounts.register("alice")
    claims = claims_of(token)
    user = claims["sub"]
    # It cannot know what happened before it listened.
    for _ in range(3):
        assert await listening.ask(f"Token {token}") == (200, {"user": user, "roles": []})
    assert introspections(listening) == 1
    app = accounts.http.app
    assert app is not None
    give = partial(change_roles, client=ADMINISTRATOR, user_id=await id_of(db), add=["editor"])
    await app[DATABASE].transact(give)
    await until_changed(listening, user)
    for _ in range(3):
        assert await listening.ask(f"Token {token}") == (200, {"user": user, "roles": ["editor"]})
    assert introspections(listening) == 2
    await accounts.post("/api/auth/logout", token=token)
    await until_changed(listening, claims["sid"])
    assert await listening.ask(f"Token {token}") == (401, None)


async def test_listening_service_asks_nothing_for_a_token_issued_while_it_listens(
    listening: TwoServices,
) -> None:
    token = await listening.accounts.register("alice")
    listening.module.since -= 120
    assert (await listening.ask(f"Token {token}"))[0] == 200
    assert introspections(listening) == 0


@pytest.mark.parametrize("revoke", ["lock", "deletion", "sign-out from another device"])
async def test_listening_service_hears_of_every_revocation(
    listening: TwoServices, db: asyncpg.Connection, revoke: str
) -> None:
    accounts = listening.accounts
    token = await accounts.register("alice")
    listening.module.since -= 120
    assert (await listening.ask(f"Token {token}"))[0] == 200
    other = (await accounts.sign_in("alice")).access
    claims = claims_of(token)
    if revoke == "lock":
        await lock(accounts, await id_of(db))
    elif revoke == "deletion":
        body = {"user": {"password": "alice-secret"}}
        assert (await accounts.delete("/api/user", body, token=other)).status == 204
    else:
        assert (await accounts.delete("/api/user/sessions", token=other)).status == 204
    await until_changed(listening, claims["sub" if revoke == "deletion" else "sid"])
    assert await listening.ask(f"Token {token}") == (401, None)


async def test_listening_service_asks_while_it_hears_nothing(
    listening: TwoServices, db: asyncpg.Connection
) -> None:
    token = await listening.accounts.register("alice")
    listening.module.since -= 120
    assert (await listening.ask(f"Token {token}"))[0] == 200
    assert introspections(listening) == 0
    terminated = await db.fetchval(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename like 'feed_%'"
    )
    assert terminated == 1
    async with asyncio.timeout(20):
        while listening.module.heard_until:
            await asyncio.sleep(0)
    await db.execute("set session_replication_role = replica")
    await db.execute("update sessions set ended_at = now(), end_reason = 'signed_out'")
    await db.execute("set session_replication_role = origin")
    assert await listening.ask(f"Token {token}") == (401, None)
    await until_heard(listening)
    # It cannot know what happened meanwhile.
    assert await listening.ask(f"Token {token}") == (401, None)
