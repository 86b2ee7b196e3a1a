"""Access tokens with ES256 and EdDSA: their claims, and the rejection of every other token."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import jwt
import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service.accounts.sessions.signing_keys import SIGNING_KEYS, SigningKey
from tests.accounts.sessions.keys_of_tokens import (
    ALGORITHMS,
    claims_of,
    current_key,
    header_of,
    published_keys,
    rotate_keys,
    sign,
    until_keys_are,
)
from tests.accounts.two_instances import queries_of, wait_until_trusted
from tests.conftest import SECRET, Client, MakeClient
from tests.responses import assert_error

ISSUER = "https://accounts.example.org"
AUDIENCE = "https://api.example.org"


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    """Return each algorithm in turn."""
    return str(request.param)


@pytest.fixture
async def client(make_client: MakeClient, algorithm: str) -> Client:
    client = await make_client(
        token_algorithm=algorithm, base_url=ISSUER, token_audience=AUDIENCE, user_cache_size=100
    )
    return await wait_until_trusted(client)


async def test_token_is_of_rfc_9068_and_verified_with_the_published_key(
    client: Client, algorithm: str
) -> None:
    token = await client.register("alice")
    (jwk,) = await published_keys(client)
    assert header_of(token) == {"alg": algorithm, "typ": "at+jwt", "kid": jwk["kid"]}
    key = jwt.PyJWK(jwk)
    claims = jwt.decode(token, key, algorithms=[algorithm], audience=AUDIENCE, issuer=ISSUER)
    names = {"iss", "sub", "aud", "client_id", "iat", "exp", "jti", "sid"}
    assert set(claims) == names
    assert claims["exp"] == claims["iat"] + 86_400
    other = claims_of((await client.get("/api/user", token=token)).body["user"]["token"])
    assert (other["sub"], other["sid"]) == (claims["sub"], claims["sid"])
    assert other["jti"] != claims["jti"]


async def test_token_of_every_algorithm_is_accepted_after_a_change_of_the_algorithm(
    make_client: MakeClient,
) -> None:
    clients = [await make_client(token_algorithm=name) for name in ("HS256", *ALGORITHMS)]
    tokens = [await client.register(f"user{number}") for number, client in enumerate(clients)]
    # A key is published before it signs: the first one goes on.
    assert [header_of(token)["alg"] for token in tokens] == ["HS256", "ES256", "ES256"]
    for client in (*clients, await make_client(token_algorithm="HS256")):
        for token in tokens:
            assert (await client.get("/api/user", token=token)).status == 200


async def test_token_expires(client: Client) -> None:
    token = await client.register("alice")
    with time_machine.travel(claims_of(token)["exp"], tick=False):
        response = await client.get("/api/user", token=token)
    assert_error(response, 401, "token_expired", {"token": ["has expired"]})


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_hs256(key: bytes, claims: dict[str, Any], header: dict[str, Any]) -> str:
    """Return a token of HS256 by hand: PyJWT refuses to use a public key."""
    signed = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
    return f"{signed}.{encode(hmac.digest(key, signed.encode(), 'sha256'))}"


PUBLIC_FORMATS: dict[str, Callable[[SigningKey], bytes]] = {
    "PEM": lambda key: key.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "PEM without the last line break": lambda key: key.public.public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    ).strip(),
    "DER": lambda key: key.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "JWK": lambda key: json.dumps(key.jwk).encode(),
    "x": lambda key: base64.urlsafe_b64decode(key.jwk["x"] + "=="),
    "text of x": lambda key: key.jwk["x"].encode(),
    "kid": lambda key: key.id.encode(),
}


@pytest.mark.parametrize("form", PUBLIC_FORMATS.values(), ids=PUBLIC_FORMATS)
async def test_hs256_with_the_public_key_as_its_secret_is_rejected(
    client: Client, form: Callable[[SigningKey], bytes]
) -> None:
    claims, key = claims_of(await client.register("alice")), current_key(client)
    secret = form(key)
    # Twice 43 characters are 86, as many as a signature of ES256 has.
    padded = sign_hs256(secret, claims, {"alg": "HS256", "typ": "at+jwt", "kid": key.id})
    for token in (
        padded,
        padded + padded.rpartition(".")[2],
        sign_hs256(secret, claims, {"alg": "HS256", "typ": "JWT"}),
        sign_hs256(secret, claims, {"alg": key.algorithm, "typ": "at+jwt", "kid": key.id}),
    ):
        response = await client.get("/api/user", token=token)
        assert_error(response, 401, "token_invalid", {"token": ["is invalid"]})


def unsigned(token: str, algorithm: str) -> str:
    header = {**header_of(token), "alg": algorithm}
    return f"{encode(json.dumps(header).encode())}.{token.split('.')[1]}."


def with_attackers_key(token: str) -> str:
    """Return a token that an attacker has signed with their key, which is in the header."""
    private = generate_private_key(SECP256R1())
    public = jwt.get_algorithm_by_name("ES256").to_jwk(private.public_key(), as_dict=True)
    headers = {**header_of(token), "alg": "ES256", "jwk": public, "jku": "https://evil.test/"}
    return jwt.encode(claims_of(token), private, "ES256", headers=headers)


Forge = Callable[[str, SigningKey], str]
CHANGED_HEADERS: dict[str, dict[str, Any]] = {
    "typ of an ID token": {"typ": "JWT"},
    "no typ": {"typ": None},
    "typ that is a list": {"typ": ["at+jwt"]},
    "no kid": {"kid": None},
    "kid that is empty": {"kid": ""},
    "kid in capitals": {"kid": "0B7A1F52-6A5E-4F0E-9D3A-5F2F0B9A3C11"},
    "kid with a path": {"kid": "../../../dev/null"},
    "kid with SQL": {"kid": "' or true --"},
    "kid that is unknown": {"kid": str(uuid4())},
    "critical extension": {"crit": ["x"], "x": 1},
}
CHANGED_CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.test"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "https://other.test"},
    "no audience": {"aud": None},
    "no sid": {"sid": None},
    "a sid that is no UUID": {"sid": "1"},
    "a sub that is a list": {"sub": ["1"]},
    "no iat": {"iat": None},
    "no exp": {"exp": None},
    "an exp that is infinite": {"exp": float("inf")},
}


def _with_headers(changes: dict[str, Any]) -> Forge:
    return lambda token, key: sign(key, claims_of(token), **changes)


def _with_claims(changes: dict[str, Any]) -> Forge:
    def forge(token: str, key: SigningKey) -> str:
        claims = {**claims_of(token), **changes}
        return sign(key, {name: value for name, value in claims.items() if value is not None})

    return forge


FORGED: dict[str, Forge] = {
    "algorithm none": lambda token, _: unsigned(token, "none"),
    "algorithm None": lambda token, _: unsigned(token, "None"),
    "algorithm none with the signature": lambda token, _: (
        unsigned(token, "none") + token.rpartition(".")[2]
    ),
    "the key of the attacker": lambda token, _: with_attackers_key(token),
    "another payload": lambda token, _: ".".join(
        (
            token.split(".")[0],
            encode(json.dumps({**claims_of(token), "sub": str(uuid4())}).encode()),
            token.split(".")[2],
        )
    ),
    "a signature of zeros": lambda token, _: token.rpartition(".")[0] + "." + "A" * 86,
    "an empty signature": lambda token, _: token.rpartition(".")[0] + ".",
    "stray bits at the end": lambda token, _: token[:-1] + chr(ord(token[-1]) + 1),
    "padding": lambda token, _: token + "==",
    "HS512 with the secret": lambda token, _: _hs512(token),
    **{name: _with_headers(changes) for name, changes in CHANGED_HEADERS.items()},
    **{name: _with_claims(changes) for name, changes in CHANGED_CLAIMS.items()},
}


def _hs512(token: str) -> str:
    """Return a token of HS512, whose signature has 86 characters too."""
    header = {**header_of(token), "alg": "HS512"}
    signed = f"{encode(json.dumps(header).encode())}.{token.split('.')[1]}"
    digest = hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha512)
    return f"{signed}.{encode(digest)}"


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_forged_token_is_rejected(client: Client, forge: Forge) -> None:
    token = await client.register("alice")
    forged = forge(token, current_key(client))
    assert forged != token
    response = await client.get("/api/user", token=forged)
    assert_error(response, 401, "token_invalid", {"token": ["is invalid"]})


async def test_token_signed_with_the_key_of_the_service_is_accepted(client: Client) -> None:
    """Without the changes of the tables above, the same token is valid."""
    token = await client.register("alice")
    ahead = {**claims_of(token), "iat": int(time.time()) + 60}
    assert await client.is_authenticated(sign(current_key(client), ahead))


async def test_key_verifies_only_its_own_algorithm(
    client: Client, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys of both algorithms are known. A kid of one does not verify the other."""
    token = await client.register("alice")
    first = current_key(client)
    (other,) = set(ALGORITHMS) - {algorithm}
    monkeypatch.setattr("service.accounts.sessions.signing_keys.PUBLISH_SECONDS", 0)
    await rotate_keys(client, other)
    await until_keys_are(client, 2)
    second = current_key(client)
    assert (first.algorithm, second.algorithm) == (algorithm, other)
    claims = claims_of(token)
    for key in (first, second):
        assert await client.is_authenticated(sign(key, claims))
    for key, kid in ((first, second.id), (second, first.id)):
        for algorithm_of_header in ALGORITHMS:
            forged = _with_header(sign(key, claims, kid=kid), alg=algorithm_of_header)
            response = await client.get("/api/user", token=forged)
            assert_error(response, 401, "token_invalid", {"token": ["is invalid"]})


def _with_header(token: str, **changes: str) -> str:
    header, rest = token.split(".", 1)
    assert header
    return f"{encode(json.dumps({**header_of(token), **changes}).encode())}.{rest}"


async def test_many_tokens_with_unknown_keys_read_the_keys_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await client.register("alice")
    key, claims = current_key(client), claims_of(token)
    # The start of the service has read the keys.
    monkeypatch.setattr("service.accounts.sessions.signing_keys.MIN_RELOAD_INTERVAL", 1000.0)
    app = client.http.app
    assert app is not None
    app[SIGNING_KEYS]._read_at -= 1000.0
    queries = queries_of(monkeypatch)
    forged = [sign(key, claims, kid=str(uuid4())) for _ in range(20)]
    responses = await asyncio.gather(*(client.get("/api/user", token=each) for each in forged))
    assert {response.status for response in responses} == {401}
    assert queries == ["list"]
