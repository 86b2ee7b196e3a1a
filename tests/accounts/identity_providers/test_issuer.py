"""Test that the providers of the tests are correct, and that each bend has its effect."""

import hashlib
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import ClientSession, ClientTimeout
from yarl import URL

from tests.accounts.identity_providers import provider_server, signing
from tests.accounts.identity_providers.github import GitHub, email
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.identity_providers.provider_server import HUGE, Fault, ProviderServer
from tests.accounts.identity_providers.signing import Sign, base64url, rsa_key

VERIFIER = "verifier-of-the-test-43-characters-and-more-"
CHALLENGE = base64url(hashlib.sha256(VERIFIER.encode()).digest())
CALLBACK = "http://127.0.0.1:1/callback"


async def fetch(method: str, url: str, **options: Any) -> Any:
    """Return the status and the body of a response, parsed if it is JSON."""
    async with (
        ClientSession() as session,
        session.request(method, url, allow_redirects=False, **options) as response,
    ):
        is_json = response.content_type == "application/json"
        return response.status, await (response.json() if is_json else response.read())


async def begin(provider: ProviderServer, path: str, **changes: str) -> URL:
    """Consent, and return the URL of the callback."""
    query = {
        "response_type": "code",
        "client_id": getattr(provider, "client_id", ""),
        "redirect_uri": CALLBACK,
        "scope": "openid user:email",
        "state": "the state",
        "nonce": "the nonce",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **changes,
    }
    return await provider.consent(URL(f"{provider.url}{path}").with_query(query))


async def exchange(issuer: Issuer, code: str, **changes: str) -> tuple[int, Any]:
    """Send the code to the token endpoint. Return the status and the body."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        "client_id": issuer.client_id,
        "client_secret": issuer.client_secret,
        **changes,
    }
    status, body = await fetch("POST", f"{issuer.url}/token", data=form)
    return status, body


async def sign_in(issuer: Issuer) -> dict[str, Any]:
    """Run the flow and return the response of the token endpoint."""
    callback = await begin(issuer, "/authorize")
    _, tokens = await exchange(issuer, callback.query["code"])
    assert isinstance(tokens, dict)
    return tokens


async def decode(issuer: Issuer, id_token: str) -> dict[str, Any]:
    """Verify the ID token as a client should, and return its claims."""
    _, keys = await fetch("GET", f"{issuer.url}/jwks")
    key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(id_token)["kid"]]
    return jwt.decode(
        id_token, key, algorithms=["RS256"], audience=issuer.client_id, issuer=issuer.url
    )


async def test_issuer_signs_in(issuer: Issuer) -> None:
    _, document = await fetch("GET", f"{issuer.url}/.well-known/openid-configuration")
    assert document["issuer"] == issuer.url
    callback = await begin(issuer, "/authorize")
    assert callback.query["state"] == "the state" and callback.query["iss"] == issuer.url
    status, tokens = await exchange(issuer, callback.query["code"])
    assert status == 200
    claims = await decode(issuer, tokens["id_token"])
    assert (claims["sub"], claims["nonce"]) == (issuer.profile["sub"], "the nonce")
    digest = hashlib.sha256(tokens["access_token"].encode()).digest()
    assert claims["at_hash"] == base64url(digest[:16])
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    userinfo = await fetch("GET", f"{issuer.url}/userinfo", headers=headers)
    assert userinfo == (200, issuer.profile)
    assert len(issuer.received("/token")) == 1


async def test_issuer_accepts_the_secret_in_the_authorization_header(issuer: Issuer) -> None:
    code = (await begin(issuer, "/authorize")).query["code"]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    headers = {"Authorization": aiohttp.encode_basic_auth("conduit", "wrong")}
    assert (await fetch("POST", f"{issuer.url}/token", data=form, headers=headers))[0] == 401
    secret = URL.build(query={"s": issuer.client_secret}).raw_query_string[2:]
    headers = {"Authorization": aiohttp.encode_basic_auth("conduit", secret)}
    assert (await fetch("POST", f"{issuer.url}/token", data=form, headers=headers))[0] == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"code": "wrong"}, "invalid_grant"),
        ({"code_verifier": "wrong"}, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:2/callback"}, "invalid_grant"),
    ],
    ids=str,
)
async def test_issuer_refuses_a_wrong_exchange(
    issuer: Issuer, changes: dict[str, str], error: str
) -> None:
    code = (await begin(issuer, "/authorize")).query["code"]
    assert (await exchange(issuer, **{"code": code, **changes}))[1] == {"error": error}


async def test_issuer_accepts_a_code_once(issuer: Issuer) -> None:
    code = (await begin(issuer, "/authorize")).query["code"]
    assert (await exchange(issuer, code))[0] == 200
    assert (await exchange(issuer, code))[0] == 400


async def test_issuer_demands_pkce(issuer: Issuer) -> None:
    callback = await begin(issuer, "/authorize", code_challenge_method="plain")
    assert callback.query["error"] == "invalid_request"


async def test_bends_change_one_part(issuer: Issuer) -> None:
    issuer.bend(
        callback=lambda query: {**query, "iss": "https://other.test"},
        claims=lambda claims: {**claims, "nonce": "other"},
        header=lambda header: {**header, "typ": "at+jwt"},
        tokens=lambda tokens: {**tokens, "token_type": "mac"},
        userinfo=lambda profile: {**profile, "sub": "other"},
        discovery=lambda document: {**document, "issuer": "https://other.test"},
        jwks=lambda document: {"keys": document["keys"] * 2},
    )
    assert (await begin(issuer, "/authorize")).query["iss"] == "https://other.test"
    tokens = await sign_in(issuer)
    assert tokens["token_type"] == "mac"
    assert (await decode(issuer, tokens["id_token"]))["nonce"] == "other"
    assert jwt.get_unverified_header(tokens["id_token"])["typ"] == "at+jwt"
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    _, profile = await fetch("GET", f"{issuer.url}/userinfo", headers=headers)
    assert profile["sub"] == "other"
    _, document = await fetch("GET", f"{issuer.url}/.well-known/openid-configuration")
    assert document["issuer"] == "https://other.test"
    assert len((await fetch("GET", f"{issuer.url}/jwks"))[1]["keys"]) == 2


@pytest.mark.parametrize(
    ("sign", "algorithm"),
    [
        (signing.sign_with(rsa_key("attacker")), "RS256"),
        (signing.sign_with_embedded_key, "RS256"),
        (signing.without_signature, "RS256"),
        (signing.with_changed_claims, "RS256"),
        (signing.unsigned, "none"),
        (signing.unsigned_mixed_case, "nOnE"),
        (signing.hs256_with_public_key, "HS256"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_wrong_signature_does_not_verify(issuer: Issuer, sign: Sign, algorithm: str) -> None:
    issuer.bend(sign=sign)
    id_token = (await sign_in(issuer))["id_token"]
    assert jwt.get_unverified_header(id_token)["alg"] == algorithm
    with pytest.raises(jwt.InvalidTokenError):
        await decode(issuer, id_token)


async def test_rotated_key_has_another_kid(issuer: Issuer) -> None:
    before = (await sign_in(issuer))["id_token"]
    issuer.rotate_key()
    await decode(issuer, (await sign_in(issuer))["id_token"])
    with pytest.raises(KeyError):
        await decode(issuer, before)


@pytest.mark.parametrize(
    "fault",
    [
        provider_server.slow,
        provider_server.stalled,
        provider_server.dripping,
        provider_server.dropped,
        provider_server.truncated,
    ],
)
async def test_fault_leaves_the_client_without_a_response(issuer: Issuer, fault: Fault) -> None:
    issuer.bend(faults={"/jwks": fault})
    with pytest.raises((TimeoutError, aiohttp.ClientError)):
        await fetch("GET", f"{issuer.url}/jwks", timeout=ClientTimeout(total=0.2))


async def test_faults_change_the_response(issuer: Issuer) -> None:
    async def send(fault: Fault) -> Any:
        issuer.bend(faults={"/jwks": fault})
        return await fetch("GET", f"{issuer.url}/jwks")

    _, keys = await fetch("GET", f"{issuer.url}/jwks")
    assert await send(provider_server.redirected) == (307, b"")
    assert await fetch("GET", f"{issuer.url}/jwks?redirected=1") == (200, keys)
    assert await send(provider_server.in_array) == (200, [keys])
    assert await send(provider_server.compressed) == (200, keys)
    assert await send(provider_server.with_status(500)) == (500, keys)
    assert await send(provider_server.with_content_type("text/html")) != (200, keys)
    issuer.bend(faults={"/jwks": provider_server.with_body(b"[1]")})
    assert await fetch("GET", f"{issuer.url}/jwks") == (200, [1])


@pytest.mark.parametrize(
    "fault",
    [provider_server.huge, provider_server.huge_chunked, provider_server.compressed_huge],
)
async def test_huge_response_has_the_correct_document_at_the_end(
    issuer: Issuer, fault: Fault
) -> None:
    issuer.bend(faults={"/jwks": fault})
    async with ClientSession() as session, session.get(f"{issuer.url}/jwks") as response:
        body = await response.read()
    assert len(body) > HUGE and body.strip().startswith(b'{"keys"')


async def test_stopped_issuer_refuses_connections(issuer: Issuer) -> None:
    await issuer.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await fetch("GET", f"{issuer.url}/jwks")


async def github_token(github: GitHub, code: str, **headers: str) -> Any:
    form = {
        "client_id": github.client_id,
        "client_secret": github.client_secret,
        "code": code,
        "code_verifier": VERIFIER,
    }
    url = f"{github.url}/login/oauth/access_token"
    return await fetch("POST", url, data=form, headers=headers)


async def test_github_signs_in(github: GitHub) -> None:
    callback = await begin(github, "/login/oauth/authorize")
    assert "iss" not in callback.query
    code = callback.query["code"]
    status, tokens = await github_token(github, code, Accept="application/json")
    assert status == 200 and "user:email" in tokens["scope"]
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert await fetch("GET", f"{github.url}/user", headers=headers) == (200, github.user)
    emails = await fetch("GET", f"{github.url}/user/emails", headers=headers)
    assert emails == (200, [email("octocat@example.test")])
    # GitHub sends errors with the status 200, and forms to clients that do not ask for JSON.
    assert await github_token(github, code) == (200, b"error=bad_verification_code")


async def test_github_hides_the_emails_without_their_scope(github: GitHub) -> None:
    github.granted = ""
    code = (await begin(github, "/login/oauth/authorize")).query["code"]
    _, tokens = await github_token(github, code, Accept="application/json")
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await fetch("GET", f"{github.url}/user/emails", headers=headers))[0] == 404
