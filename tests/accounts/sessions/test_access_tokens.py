"""Access tokens: their claims, and the rejection of every other token."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
import time_machine

from service.accounts.sessions.access_tokens import AccessTokens
from tests.conftest import SECRET, SIGNS_WITH_HS256, Client, MakeClient
from tests.responses import assert_error

pytestmark = SIGNS_WITH_HS256

HS256 = {"alg": "HS256", "typ": "JWT"}
OLD_SECRET = "what signed before it was changed, 32 bytes"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def sign(claims: Any, header: Any = HS256, key: str = SECRET, digest: Any = hashlib.sha256) -> str:
    """Return a JWT that is encoded by hand: no library encodes malformed ones."""
    signed = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
    return f"{signed}.{encode(hmac.new(key.encode(), signed.encode(), digest).digest())}"


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = decode(token.split(".")[1])
    return claims


def unsigned(token: str, header: Any, signature: str = "") -> str:
    return f"{encode(json.dumps(header).encode())}.{token.split('.')[1]}.{signature}"


def without(name: str) -> Callable[[str], str]:
    return lambda token: sign({key: v for key, v in claims_of(token).items() if key != name})


def with_claim(name: str, value: Any) -> Callable[[str], str]:
    return lambda token: sign({**claims_of(token), name: value})


def with_signature(change: Callable[[str], str]) -> Callable[[str], str]:
    def make(token: str) -> str:
        signed, _, signature = token.rpartition(".")
        return f"{signed}.{change(signature)}"

    return make


def with_another_payload(token: str) -> str:
    header, _, signature = token.split(".")
    payload = encode(json.dumps({**claims_of(token), "sub": str(uuid4())}).encode())
    return f"{header}.{payload}.{signature}"


def with_deep_header(token: str) -> str:
    _, payload, signature = token.split(".")
    return f"{encode(b'[' * 5500)}.{payload}.{signature}"


NOT_A_TOKEN: dict[str, Callable[[str], str]] = {
    "algorithm none, no signature": lambda token: unsigned(token, {"alg": "none", "typ": "JWT"}),
    "algorithm None, no signature": lambda token: unsigned(token, {"alg": "None"}),
    "algorithm none, the old signature": lambda token: unsigned(
        token, {"alg": "none"}, token.split(".")[2]
    ),
    "algorithm none, signed": lambda token: sign(claims_of(token), {"alg": "none"}),
    "no algorithm": lambda token: sign(claims_of(token), {"typ": "JWT"}),
    "an algorithm that is no string": lambda token: sign(claims_of(token), {"alg": ["HS256"]}),
    "HS512 with the right secret": lambda token: sign(
        claims_of(token), {"alg": "HS512"}, digest=hashlib.sha512
    ),
    "HS384 with the right secret": lambda token: sign(
        claims_of(token), {"alg": "HS384"}, digest=hashlib.sha384
    ),
    "RS256 with the secret for a key": lambda token: sign(claims_of(token), {"alg": "RS256"}),
    "a header that is a list": lambda token: sign(claims_of(token), ["HS256"]),
    "a header nested 5,500 levels deep": with_deep_header,
    "a critical extension": lambda token: sign(claims_of(token), {**HS256, "crit": ["x"]}),
    "a payload that is a list": lambda token: sign([claims_of(token)]),
    "a payload that is null": lambda token: sign(None),
    "another payload under the signature": with_another_payload,
    "no signature": with_signature(lambda signature: ""),
    "half a signature": with_signature(lambda signature: signature[:21]),
    "its first letter changed": with_signature(lambda s: ("A" if s[0] != "A" else "B") + s[1:]),
    # The last base64 character has two bits more than the signature needs. They must be zero.
    "its last letter changed": with_signature(lambda s: s[:-1] + chr(ord(s[-1]) + 1)),
    "letters in it that base64 skips": with_signature(lambda s: f"{s[:9]}!*{s[9:]}"),
    "letters after it that base64 skips": with_signature(lambda s: s + "!"),
    "padding after it": with_signature(lambda s: s + "="),
    "another secret": lambda token: sign(claims_of(token), key="x" * 40),
    "an empty secret": lambda token: sign(claims_of(token), key=""),
    "no sub": without("sub"),
    "no iat": without("iat"),
    "no exp": without("exp"),
    "no sid": without("sid"),
    "a sub that is null": with_claim("sub", None),
    "a sub that is no UUID": with_claim("sub", "alice"),
    "a sub that is a number": with_claim("sub", 1),
    "a sub that is a list": with_claim("sub", [str(uuid4())]),
    "a sub with SQL": with_claim("sub", "' or true --"),
    "a sub with a NUL": with_claim("sub", "\0"),
    "a sid that is null": with_claim("sid", None),
    "a sid that is empty": with_claim("sid", ""),
    "a sid that is no UUID": with_claim("sid", "alice"),
    "a sid that is a number": with_claim("sid", 5),
    "a sid that is a list": with_claim("sid", [str(uuid4())]),
    "a sid with SQL": with_claim("sid", "' or true --"),
    "a sid with a NUL": with_claim("sid", "\0"),
    "an exp that is null": with_claim("exp", None),
    "an exp that is a word": with_claim("exp", "never"),
    "an exp that is infinite": with_claim("exp", float("inf")),
    "not valid yet": with_claim("nbf", 4_000_000_000),
}


@pytest.mark.parametrize("make", NOT_A_TOKEN.values(), ids=NOT_A_TOKEN)
async def test_authorization_is_invalid_when_it_holds_no_token_of_this_service(
    client: Client, alice: str, make: Callable[[str], str]
) -> None:
    forged = make(alice)
    assert forged != alice
    response = await client.get("/api/user", token=forged)
    assert_error(response, 401, "token_invalid", {"token": ["is invalid"]})
    assert response.headers["WWW-Authenticate"] == "Token"


async def test_token_signed_with_the_secret_is_accepted(client: Client, alice: str) -> None:
    # Without the changes of the table above, the same token is valid.
    assert (await client.get("/api/user", token=sign(claims_of(alice)))).status == 200


async def test_token_is_invalid_when_it_has_8000_characters(client: Client) -> None:
    response = await client.get("/api/user", token="a" * 8000)
    assert_error(response, 401, "token_invalid", {"token": ["is invalid"]})


async def test_token_has_the_claims_of_user_session_and_expiry(make_client: MakeClient) -> None:
    client = await make_client(access_token_ttl=1000)
    before = int(time.time())
    token = await client.register("alice")
    assert decode(token.split(".")[0]) == HS256
    claims = claims_of(token)
    assert set(claims) == {"sub", "iat", "exp", "sid"}
    assert UUID(claims["sub"]) and UUID(claims["sid"])
    assert before <= claims["iat"] <= int(time.time())
    assert claims["exp"] == claims["iat"] + 1000


async def test_token_expires_after_a_day_by_default(client: Client, alice: str) -> None:
    issued = claims_of(alice)["iat"]
    with time_machine.travel(issued + 86_398, tick=False):
        assert (await client.get("/api/user", token=alice)).status == 200
    with time_machine.travel(issued + 86_400, tick=False):
        response = await client.get("/api/user", token=alice)
    assert_error(response, 401, "token_expired", {"token": ["has expired"]})
    assert response.headers["WWW-Authenticate"] == "Token"


async def test_expired_token_is_invalid_when_its_signature_is_wrong(
    client: Client, alice: str
) -> None:
    forged = sign({**claims_of(alice), "exp": 1}, key="x" * 40)
    response = await client.get("/api/user", token=forged)
    assert_error(response, 401, "token_invalid", {"token": ["is invalid"]})


async def test_token_is_accepted_when_its_clock_is_ahead(client: Client, alice: str) -> None:
    ahead = {**claims_of(alice), "iat": int(time.time()) + 60}
    assert (await client.get("/api/user", token=sign(ahead))).status == 200


async def test_token_of_an_unknown_user_is_revoked(client: Client, alice: str) -> None:
    unknown = sign({**claims_of(alice), "sub": str(uuid4())})
    response = await client.get("/api/user", token=unknown)
    assert_error(response, 401, "token_revoked", {"token": ["has been revoked"]})
    assert response.headers["WWW-Authenticate"] == "Token"


async def test_token_of_a_deleted_user_is_revoked_for_every_method(
    client: Client, alice: str
) -> None:
    given = {"user": {"password": "alice-secret"}}
    assert (await client.delete("/api/user", given, token=alice)).status == 204
    for method, body in (("GET", None), ("PUT", {"user": {"bio": "x"}}), ("DELETE", given)):
        response = await client.send(method, "/api/user", body, token=alice)
        assert_error(response, 401, "token_revoked", {"token": ["has been revoked"]})


async def test_previous_secret_is_accepted_while_it_is_listed(
    make_client: MakeClient,
) -> None:
    before = await make_client(jwt_secret=OLD_SECRET)
    token = await before.register("alice")

    listed = await make_client(jwt_previous_secrets=(OLD_SECRET,))
    response = await listed.get("/api/user", token=token)
    assert response.status == 200

    no_longer = await make_client()
    rejected = await no_longer.get("/api/user", token=token)
    assert_error(rejected, 401, "token_invalid", {"token": ["is invalid"]})
    # The token that the service issued in the meantime is signed with the new secret.
    fresh = response.body["user"]["token"]
    assert (await no_longer.get("/api/user", token=fresh)).status == 200


async def test_token_of_a_previous_secret_has_expired_after_its_expiry(
    make_client: MakeClient,
) -> None:
    client = await make_client(jwt_previous_secrets=(OLD_SECRET,))
    claims = claims_of(await client.register("alice"))
    expired = sign({**claims, "exp": claims["iat"] - 1}, key=OLD_SECRET)
    response = await client.get("/api/user", token=expired)
    assert_error(response, 401, "token_expired", {"token": ["has expired"]})


@pytest.mark.parametrize("roles", [(), ("editor",), ("a.b:c_d-e", "editor")])
def test_issue_returns_the_same_bytes_as_pyjwt(roles: tuple[str, ...]) -> None:
    tokens = AccessTokens(SECRET, (), 3600)
    with time_machine.travel(1_800_000_000, tick=False):
        user_id, session_id = uuid4(), uuid4()
        issued = tokens.issue(user_id, session_id, 2_000_000_000.0, roles)
    claims = {
        "sub": str(user_id),
        "iat": 1_800_000_000,
        "exp": 1_800_003_600,
        "sid": str(session_id),
        **({"roles": list(roles)} if roles else {}),
    }
    assert issued.token == jwt.encode(claims, SECRET, "HS256")
    assert issued.expires_in == 3600


def test_issue_signs_a_new_token_in_each_second() -> None:
    tokens = AccessTokens(SECRET, (), 3600)
    ids = uuid4(), uuid4()
    end = 2_000_000_000.0
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        first = tokens.issue(*ids, end)
        assert tokens.issue(*ids, end) == first
        assert tokens.issue(ids[0], uuid4(), end).token != first.token
        clock.shift(1)
        assert claims_of(tokens.issue(*ids, end).token)["iat"] == 1_800_000_001
