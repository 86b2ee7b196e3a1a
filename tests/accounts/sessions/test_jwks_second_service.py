"""The service of docs/tokens.md that verifies tokens with the published keys."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.accounts.sessions.keys_of_tokens import (
    ALGORITHMS,
    claims_of,
    current_key,
    rotate_keys,
    sign,
    until_keys_are,
)
from tests.accounts.sessions.second_service import AUDIENCE, TwoServices, load, start_accounts


@pytest.fixture(params=ALGORITHMS)
async def services(
    db: asyncpg.Connection,
    aiohttp_client: Any,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> TwoServices:
    accounts = await start_accounts(
        aiohttp_client, database_url, tmp_path, token_algorithm=request.param
    )
    module = load("by_keys", monkeypatch, ISSUER=accounts.settings.public_url, AUDIENCE=AUDIENCE)
    return TwoServices(accounts, module, await aiohttp_client(module.app))


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
    rotation = await rotate_keys(services.accounts, "EdDSA", revoke_old=True)
    while current_key(services.accounts).id != str(rotation.key_id):
        await until_keys_are(services.accounts, 1)
    token = (await services.accounts.sign_in("alice")).access
    # It reads the keys at most once in ten seconds.
    services.module.read_at -= 10
    assert (await services.ask(f"Token {token}"))[0] == 200
