"""Every wrong ID token, through the callback: nothing is registered and no code is given."""

import base64
import hashlib
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.accounts.identity_providers import signing
from tests.accounts.identity_providers.flows import FrontEnd, device_of, result_of
from tests.accounts.identity_providers.issuer import CLIENT_ID, CLIENT_SECRET, Issuer
from tests.accounts.identity_providers.signing import Sign, rsa_key
from tests.conftest import Client

INVALID = {"error": "provider_response_invalid"}
NOW = int(time.time())

Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def front_end(client: Client, issuer: Issuer) -> FrontEnd:
    return FrontEnd(client, issuer)


async def assert_refused(front_end: FrontEnd, db: asyncpg.Connection) -> None:
    assert result_of(await front_end.authorize()) == INVALID
    for table in ("users", "identities", "sessions"):
        assert await db.fetchval(f"select count(*) from {table}") == 0  # noqa: S608
    purpose = "select count(*) from one_time_tokens where purpose = 'provider_code'"
    assert await db.fetchval(purpose) == 0


def with_claims(**claims: Any) -> Change:
    return lambda document: {**document, **claims}


def without(name: str) -> Change:
    return lambda document: {key: document[key] for key in document if key != name}


WRONG_CLAIMS: dict[str, Change] = {
    "another issuer": with_claims(iss="https://evil.test"),
    "issuer with a slash": lambda claims: {**claims, "iss": claims["iss"] + "/"},
    "no issuer": without("iss"),
    "another audience": with_claims(aud="other"),
    "audiences without this client": with_claims(aud=["other", "another"]),
    "no audience": without("aud"),
    "an empty audience": with_claims(aud=[]),
    "a number as the audience": with_claims(aud=7),
    "two audiences without an authorized party": with_claims(aud=[CLIENT_ID, "other"]),
    "another authorized party": with_claims(azp="other"),
    "two audiences and another authorized party": with_claims(
        aud=[CLIENT_ID, "other"], azp="other"
    ),
    "null as the authorized party": with_claims(azp=None),
    "expired": with_claims(exp=NOW - 120),
    "no expiry": without("exp"),
    "a text as the expiry": with_claims(exp="never"),
    "an infinite expiry": with_claims(exp=float("inf")),
    "not a number as the expiry": with_claims(exp=float("nan")),
    "issued in the future": with_claims(iat=NOW + 3600),
    "no time of issue": without("iat"),
    "a text as the time of issue": with_claims(iat="now"),
    "an infinite time of issue": with_claims(iat=float("-inf")),
    "not yet valid": with_claims(nbf=NOW + 3600),
    "another nonce": with_claims(nonce="other"),
    "no nonce": without("nonce"),
    "null as the nonce": with_claims(nonce=None),
    "a surrogate in the nonce": with_claims(nonce="\ud800"),
    "a list as the nonce": lambda claims: {**claims, "nonce": [claims["nonce"]]},
    "another access token": with_claims(at_hash="x" * 22),
    "null as the hash of the access token": with_claims(at_hash=None),
    "no subject": without("sub"),
    "an empty subject": with_claims(sub=""),
    "a number as the subject": with_claims(sub=248289761001),
    "null as the subject": with_claims(sub=None),
    "a NUL in the subject": with_claims(sub="a\0"),
    "a surrogate in the subject": with_claims(sub="\ud800"),
    "a long subject": with_claims(sub="a" * 256),
}


@pytest.mark.parametrize("change", WRONG_CLAIMS.values(), ids=WRONG_CLAIMS)
async def test_wrong_claim_is_refused(
    front_end: FrontEnd, issuer: Issuer, db: asyncpg.Connection, change: Change
) -> None:
    issuer.bend(claims=change)
    await assert_refused(front_end, db)


RIGHT_CLAIMS: dict[str, Change] = {
    "an array with this client": with_claims(aud=[CLIENT_ID]),
    "two audiences and this authorized party": with_claims(aud=[CLIENT_ID, "other"], azp=CLIENT_ID),
    "this authorized party": with_claims(azp=CLIENT_ID),
    "no hash of the access token": without("at_hash"),
    # The time of the test, not of the import: a run of all tests may take longer than the leeway.
    "a clock that is a little late": lambda claims: {**claims, "exp": int(time.time()) - 5},
    "a surrogate in the name": with_claims(name="\ud800", preferred_username="\ud800"),
    "a surrogate in the picture": with_claims(picture="https://\ud800"),
    "a huge time of the login": with_claims(auth_time=10**400),
    "an unknown claim": with_claims(groups=[["deep"] * 3] * 3),
}


@pytest.mark.parametrize("change", RIGHT_CLAIMS.values(), ids=RIGHT_CLAIMS)
async def test_right_claim_is_accepted(front_end: FrontEnd, issuer: Issuer, change: Change) -> None:
    issuer.bend(claims=change)
    device_of(await front_end.sign_in())


WRONG_SIGNATURES: dict[str, Sign] = {
    "another key with the same id": signing.sign_with(rsa_key("attacker")),
    "a key in the header": signing.sign_with_embedded_key,
    "none": signing.unsigned,
    "none in mixed case": signing.unsigned_mixed_case,
    "no signature": signing.without_signature,
    "claims that were changed": signing.with_changed_claims,
    "HS256 with the client secret": signing.hs256(CLIENT_SECRET.encode()),
    "HS256 with the public key": signing.hs256_with_public_key,
}


@pytest.mark.parametrize("sign", WRONG_SIGNATURES.values(), ids=WRONG_SIGNATURES)
async def test_wrong_signature_is_refused(
    front_end: FrontEnd, issuer: Issuer, db: asyncpg.Connection, sign: Sign
) -> None:
    issuer.bend(sign=sign)
    await assert_refused(front_end, db)


async def test_key_of_another_provider_is_refused(
    front_end: FrontEnd, issuer: Issuer, other_issuer: Issuer, db: asyncpg.Connection
) -> None:
    issuer.bend(sign=signing.sign_with(other_issuer.key))
    await assert_refused(front_end, db)


def deep(token: str) -> str:
    """Return a token whose header nests deeper than a parser can follow."""
    header = base64.urlsafe_b64encode(b'{"alg": "RS256", "x": ' + b"[" * 20_000).decode()
    return f"{header.rstrip('=')}.{token.partition('.')[2]}"


MALFORMED: dict[str, Callable[[str], Any]] = {
    "missing": lambda token: None,
    "empty": lambda token: "",
    "a number": lambda token: 7,
    "a list": lambda token: [token],
    "one part": lambda token: token.partition(".")[0],
    "two parts": lambda token: token.rpartition(".")[0],
    "four parts": lambda token: f"{token}.x",
    "encrypted": lambda token: f"{token}.x.y",
    "no base64": lambda token: f"%{token}",
    "spaces": lambda token: f" {token}",
    "a NUL": lambda token: f"{token}\0",
    "a surrogate": lambda token: f"{token}\ud800",
    "not ASCII": lambda token: f"ü{token}",
    "huge": lambda token: token + "A" * 100_000,
    "deep": deep,
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_token_is_refused(
    front_end: FrontEnd, issuer: Issuer, db: asyncpg.Connection, change: Callable[[str], Any]
) -> None:
    issuer.bend(id_token=change)
    await assert_refused(front_end, db)


HEADERS: dict[str, Change] = {
    "no algorithm": without("alg"),
    "null as the algorithm": with_claims(alg=None),
    "a list as the algorithm": with_claims(alg=["RS256"]),
    "another algorithm of the same key": with_claims(alg="RS512"),
    "an unknown key": with_claims(kid="unknown"),
    "a number as the key": with_claims(kid=7),
    "a list as the key": with_claims(kid=["first"]),
    "an unknown critical extension": with_claims(crit=["x"], x=1),
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS)
async def test_wrong_header_is_refused(
    front_end: FrontEnd, issuer: Issuer, db: asyncpg.Connection, change: Change
) -> None:
    issuer.bend(header=change)
    await assert_refused(front_end, db)


async def test_token_without_a_key_id_is_accepted_when_there_is_one_key(
    front_end: FrontEnd, issuer: Issuer
) -> None:
    issuer.bend(header=without("kid"))
    device_of(await front_end.sign_in())


async def test_hash_of_the_access_token_is_its_left_half(
    front_end: FrontEnd, issuer: Issuer, db: asyncpg.Connection
) -> None:
    whole = hashlib.sha256(b"x").digest()
    issuer.bend(
        tokens=lambda tokens: {**tokens, "access_token": "x"},
        claims=with_claims(at_hash=base64.urlsafe_b64encode(whole).rstrip(b"=").decode()),
    )
    await assert_refused(front_end, db)
    issuer.bend(
        claims=with_claims(at_hash=base64.urlsafe_b64encode(whole[:16]).rstrip(b"=").decode())
    )
    assert "code" in result_of(await front_end.authorize())
