"""Helpers of tests that sign access tokens with ES256 or EdDSA."""

from typing import Any

import jwt

from service.accounts.encryption import ENCRYPTION
from service.accounts.sessions.key_rotation import Rotation, rotate
from service.accounts.sessions.signing_keys import SIGNING_KEYS, SigningKey
from service.database.change_listener import CHANGE_LISTENER
from service.database.pool import DATABASE
from tests.conftest import Client

ALGORITHMS = ["ES256", "EdDSA"]


def current_key(client: Client) -> SigningKey:
    """Return the key that signs in the process of ``client``."""
    app = client.http.app
    assert app is not None
    key: SigningKey = app[SIGNING_KEYS].ring.current()
    return key


def header_of(token: str) -> dict[str, Any]:
    return dict(jwt.get_unverified_header(token))


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def sign(key: SigningKey, claims: dict[str, Any], **header: Any) -> str:
    """Return a token with ``claims`` and with changes to the header of the service's own tokens.

    A ``kid`` of ``None`` is left out. PyJWT leaves out an empty ``typ``.
    """
    assert key.private is not None
    headers = {"typ": "at+jwt", "kid": key.id, **header}
    headers = {name: value for name, value in headers.items() if value is not None or name == "typ"}
    return jwt.encode(claims, key.private, key.algorithm, headers=headers)


async def rotate_keys(client: Client, algorithm: str, *, revoke_old: bool = False) -> Rotation:
    """Rotate the keys as the command does, in the database of ``client``."""
    app = client.http.app
    assert app is not None
    encryption = app[ENCRYPTION]

    async def work(connection: Any) -> Rotation:
        return await rotate(connection, encryption, algorithm, revoke_old=revoke_old)

    rotation: Rotation = await app[DATABASE].transact(work)
    return rotation


async def until_keys_are(client: Client, count: int) -> list[dict[str, Any]]:
    """Wait until the process has heard of the change, and return the published keys."""
    app = client.http.app
    assert app is not None
    await app[CHANGE_LISTENER].wait_until_applied()
    while True:
        keys = await published_keys(client)
        if len(keys) == count:
            return keys


async def published_keys(client: Client) -> list[dict[str, Any]]:
    response = await client.get("/.well-known/jwks.json")
    assert response.status == 200
    keys: list[dict[str, Any]] = response.body["keys"]
    return keys
