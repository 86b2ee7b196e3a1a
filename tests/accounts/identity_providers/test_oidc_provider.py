"""Test the OpenID provider that the other tests use, without the service."""

import base64
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote_plus, urlencode

import jwt
import pytest
from aiohttp import ClientSession, encode_basic_auth
from yarl import URL

from tests.oidc_provider.process import CLIENT_SECRET, OIDCProvider

CALLBACK = "http://localhost:3000/callback"
VERIFIER = "v" * 43
NAMED_CLAIMS = {"sub", "email", "email_verified", "name", "preferred_username", "picture"}


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    """Yield a client with the cookies of one person."""
    async with ClientSession() as session:
        yield session


async def discover(session: ClientSession, provider: OIDCProvider) -> dict[str, Any]:
    async with session.get(f"{provider.issuer}/.well-known/openid-configuration") as response:
        document: dict[str, Any] = await response.json()
        return document


async def authorization_url(
    session: ClientSession, provider: OIDCProvider, **parameters: str
) -> str:
    """Register the client, and return a URL that begins a flow with PKCE."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest())
    query = {
        "client_id": "conduit",
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid email profile",
        "state": "the state",
        "nonce": "the nonce",
        "code_challenge": challenge.decode().rstrip("="),
        "code_challenge_method": "S256",
        **parameters,
    }
    endpoint = (await discover(session, provider))["authorization_endpoint"]
    return f"{endpoint}?{urlencode(query)}"


async def exchange(session: ClientSession, provider: OIDCProvider, callback: str) -> dict[str, Any]:
    """Exchange the code in the URL ``callback`` and return the tokens."""
    fields = {
        "grant_type": "authorization_code",
        "code": URL(callback).query["code"],
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    endpoint = (await discover(session, provider))["token_endpoint"]
    # RFC 6749, section 2.3.1: both are encoded before they become a header.
    headers = {"Authorization": encode_basic_auth("conduit", quote_plus(CLIENT_SECRET))}
    async with session.post(endpoint, data=fields, headers=headers) as response:
        tokens: dict[str, Any] = await response.json()
        assert response.status == 200, tokens
        return tokens


async def id_token_claims(
    session: ClientSession, provider: OIDCProvider, token: str, algorithm: str = "RS256"
) -> dict[str, Any]:
    """Verify the ID token with the published keys and return its claims."""
    async with session.get((await discover(session, provider))["jwks_uri"]) as response:
        keys = jwt.PyJWKSet.from_dict(await response.json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token, key, [algorithm], audience="conduit", issuer=provider.issuer
    )
    return claims


async def userinfo(
    session: ClientSession, provider: OIDCProvider, tokens: dict[str, Any]
) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    endpoint = (await discover(session, provider))["userinfo_endpoint"]
    async with session.get(endpoint, headers=headers) as response:
        claims: dict[str, Any] = await response.json()
        assert response.status == 200, claims
        return claims


async def test_login_redirects_with_a_code_that_yields_verifiable_tokens(
    oidc_provider: OIDCProvider, session: ClientSession
) -> None:
    oidc_provider.add_client(CALLBACK)
    url = await authorization_url(session, oidc_provider)
    callback = await oidc_provider.log_in(session, url, "alice")
    assert callback.startswith(f"{CALLBACK}?")
    query = URL(callback).query
    assert (query["state"], query["iss"]) == ("the state", oidc_provider.issuer)
    tokens = await exchange(session, oidc_provider, callback)
    claims = await id_token_claims(session, oidc_provider, tokens["id_token"])
    assert (claims["sub"], claims["nonce"]) == ("alice", "the nonce")
    assert "email" not in claims
    profile = await userinfo(session, oidc_provider, tokens)
    assert profile.keys() == NAMED_CLAIMS
    assert (profile["sub"], profile["email"]) == ("alice", "alice@example.test")


async def test_id_token_has_the_time_of_a_new_login_when_the_client_asks_for_one(
    oidc_provider: OIDCProvider, session: ClientSession
) -> None:
    oidc_provider.add_client(CALLBACK)
    url = await authorization_url(session, oidc_provider)
    await oidc_provider.log_in(session, url, "alice")
    started = int(time.time())
    url = await authorization_url(session, oidc_provider, prompt="login", max_age="0")
    callback = await oidc_provider.log_in(session, url, "alice")
    tokens = await exchange(session, oidc_provider, callback)
    claims = await id_token_claims(session, oidc_provider, tokens["id_token"])
    assert claims["auth_time"] >= started


async def test_second_login_shows_no_form_in_the_same_browser(
    oidc_provider: OIDCProvider, session: ClientSession
) -> None:
    oidc_provider.add_client(CALLBACK)
    url = await authorization_url(session, oidc_provider)
    await oidc_provider.log_in(session, url, "alice")
    async with session.get(url, allow_redirects=False) as response:
        assert response.headers["Location"].startswith(f"{CALLBACK}?code=")


async def test_cancellation_redirects_with_an_error(
    oidc_provider: OIDCProvider, session: ClientSession
) -> None:
    oidc_provider.add_client(CALLBACK)
    url = await authorization_url(session, oidc_provider)
    query = URL(await oidc_provider.cancel(session, url)).query
    assert (query["error"], query["state"]) == ("access_denied", "the state")


@pytest.mark.parametrize("verified", [None, "false", "true", 1, False, True])
async def test_claims_are_returned_exactly_as_set(
    oidc_provider: OIDCProvider,
    other_oidc_provider: OIDCProvider,
    session: ClientSession,
    verified: object,
) -> None:
    expected = {"sub": "alice", "email": "a@example.test", "email_verified": verified}
    for provider in (oidc_provider, other_oidc_provider):
        provider.set_claims("alice", email="a@example.test", email_verified=verified)
        provider.add_client(CALLBACK)
        url = await authorization_url(session, provider)
        tokens = await exchange(session, provider, await provider.log_in(session, url, "alice"))
        assert await userinfo(session, provider, tokens) == expected
    claims = await id_token_claims(session, other_oidc_provider, tokens["id_token"])
    assert claims.items() >= expected.items()


async def test_id_token_is_signed_with_the_algorithm_of_the_client(
    oidc_provider: OIDCProvider, session: ClientSession
) -> None:
    oidc_provider.add_client(CALLBACK, id_token_signed_response_alg="ES256")
    url = await authorization_url(session, oidc_provider)
    tokens = await exchange(
        session, oidc_provider, await oidc_provider.log_in(session, url, "alice")
    )
    await id_token_claims(session, oidc_provider, tokens["id_token"], "ES256")


async def test_rotation_replaces_the_published_keys(
    oidc_provider: OIDCProvider, session: ClientSession
) -> None:
    oidc_provider.add_client(CALLBACK)
    url = await authorization_url(session, oidc_provider)
    key_ids = []
    for _ in range(2):
        callback = await oidc_provider.log_in(session, url, "alice")
        token = (await exchange(session, oidc_provider, callback))["id_token"]
        await id_token_claims(session, oidc_provider, token)
        key_ids.append(jwt.get_unverified_header(token)["kid"])
        oidc_provider.rotate_keys()
    assert key_ids[0] != key_ids[1]
