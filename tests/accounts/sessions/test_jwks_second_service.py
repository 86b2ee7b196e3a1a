"""The service of docs/tokens.md that verifies tokens with the published keys."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.app import create_app
from service.settings.settings import Settings
from tests.accounts.sessions.keys_of_tokens import (
    ALGORITHMS,
    claims_of,
    current_key,
    rotate_keys,
    sign,
)
from tests.accounts.sessions.second_service import load
from tests.conftest import SETTINGS, Client

AUDIENCE = "https://api.example.org"


@dataclass
class TwoServices:
    """This service, and another one that accepts its tokens."""

    accounts: Client
    other: Any

    async def ask(self, authorization: str) -> tuple[int, Any]:
        headers = {"Authorization": authorization}
        async with self.other.get("/hello", headers=headers) as response:
            return response.status, await response.json() if response.status == 200 else None


@pytest.fixture(params=ALGORITHMS)
async def services(
    aiohttp_client: Any,
    db: asyncpg.Connection,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> TwoServices:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    changes = {"token_algorithm": request.param, "base_url": url, "token_audience": AUDIENCE}
    settings = Settings(**{**SETTINGS, "data_dir": tmp_path, **changes})
    app = create_app(settings, database_url)
    accounts = Client(
        await aiohttp_client(app, server_kwargs={"host": "127.0.0.1", "port": port}),
        settings,
        None,  # type: ignore[arg-type]
    )
    other = load("Public keys", monkeypatch, ISSUER=url, AUDIENCE=AUDIENCE)
    return TwoServices(accounts, await aiohttp_client(other))


async def test_other_service_accepts_a_token_and_reads_its_roles(
    services: TwoServices, db: asyncpg.Connection
) -> None:
    token = await services.accounts.register("alice")
    user = claims_of(token)["sub"]
    assert await services.ask(f"Token {token}") == (200, {"user": user, "roles": []})
    await db.execute("update users set roles = '{editor}'")
    token = (await services.accounts.sign_in("alice")).access
    assert await services.ask(f"Token {token}") == (200, {"user": user, "roles": ["editor"]})


async def test_other_service_rejects_every_other_token(services: TwoServices) -> None:
    token = await services.accounts.register("alice")
    key, claims = current_key(services.accounts), claims_of(token)
    assert (await services.ask(f"Token {sign(key, claims)}"))[0] == 200
    for authorization in (
        "",
        "Token",
        f"Bearer {token}",
        f"Token {token[:-2]}",
        f"Token {sign(key, claims, typ='JWT')}",
        f"Token {sign(key, claims, kid='unknown')}",
        f"Token {sign(key, claims, kid=None)}",
        f"Token {sign(key, {**claims, 'aud': 'https://other.test'})}",
        f"Token {sign(key, {**claims, 'iss': 'https://other.test'})}",
        f"Token {sign(key, {**claims, 'exp': 1})}",
    ):
        assert await services.ask(authorization) == (401, None)


async def test_other_service_learns_a_new_key(services: TwoServices) -> None:
    token = await services.accounts.register("alice")
    assert (await services.ask(f"Token {token}"))[0] == 200
    await rotate_keys(services.accounts, "EdDSA", revoke_old=True)
    async with services.accounts.http.get("/.well-known/jwks.json") as response:
        assert response.status == 200
    token = (await services.accounts.sign_in("alice")).access
    # It reads the keys at most once in ten seconds.
    services.other.app["namespace"]["read_at"] -= 10
    assert (await services.ask(f"Token {token}"))[0] == 200
