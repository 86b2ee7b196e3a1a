"""The discovery document and the keys of a provider: fetched at need, kept, and not believed."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from service.accounts.identity_providers import discovery
from service.accounts.identity_providers.discovery import Discovery
from service.accounts.identity_providers.errors import InvalidResponse
from service.accounts.identity_providers.provider_http import ProviderHttp
from tests.accounts.identity_providers import provider_server, signing
from tests.accounts.identity_providers.flows import FrontEnd, device_of, result_of
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.identity_providers.signing import jwk_of, rsa_key
from tests.conftest import Client

DISCOVERY = "/.well-known/openid-configuration"
INVALID = {"error": "provider_response_invalid"}

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def front_end(client: Client, issuer: Issuer) -> FrontEnd:
    return FrontEnd(client, issuer)


async def begun(front_end: FrontEnd) -> Any:
    """Return the response to the begin of a sign-in."""
    return await front_end.client.get(
        "/api/auth/oauth/issuer",
        params={"redirect_to": "https://app.example.test/signed-in", "code_challenge": "a" * 43},
        allow_redirects=False,
    )


async def test_nothing_is_fetched_before_the_first_sign_in(client: Client, issuer: Issuer) -> None:
    await client.get("/api/auth/oauth")
    assert issuer.requests == []


async def test_document_and_keys_are_fetched_once(front_end: FrontEnd, issuer: Issuer) -> None:
    for _ in range(3):
        device_of(await front_end.sign_in())
    assert len(issuer.received(DISCOVERY)) == 1
    assert len(issuer.received("/jwks")) == 1


async def test_simultaneous_sign_ins_fetch_once(client: Client, issuer: Issuer) -> None:
    tabs = [FrontEnd(client, issuer) for _ in range(5)]
    responses = await asyncio.gather(*(tab.authorize() for tab in tabs))
    assert all("code" in result_of(response) for response in responses)
    assert len(issuer.received(DISCOVERY)) == 1
    assert len(issuer.received("/jwks")) == 1


async def test_unknown_key_fetches_the_keys_once_again(front_end: FrontEnd, issuer: Issuer) -> None:
    device_of(await front_end.sign_in())
    issuer.rotate_key()
    device_of(await front_end.sign_in())
    assert len(issuer.received("/jwks")) == 2
    issuer.bend(header=lambda header: {**header, "kid": "unknown"})
    assert result_of(await front_end.authorize()) == INVALID
    assert len(issuer.received("/jwks")) == 3


async def test_key_that_was_removed_is_no_longer_known(front_end: FrontEnd, issuer: Issuer) -> None:
    device_of(await front_end.sign_in())
    old = issuer.key
    issuer.rotate_key()
    device_of(await front_end.sign_in())
    issuer.bend(sign=signing.sign_with(old), header=lambda header: {**header, "kid": "first"})
    assert result_of(await front_end.authorize()) == INVALID


async def test_key_that_the_provider_has_withdrawn_expires(
    front_end: FrontEnd, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an unknown key id the service fetches nothing until then."""
    device_of(await front_end.sign_in())
    stolen = issuer.key
    issuer.rotate_key()
    issuer.bend(sign=signing.sign_with(stolen), header=lambda header: {**header, "kid": "first"})
    device_of(await front_end.sign_in())
    monkeypatch.setattr(discovery, "MAX_AGE", 0.0)
    assert result_of(await front_end.authorize()) == INVALID


async def test_document_is_fetched_again_when_it_is_old(
    front_end: FrontEnd, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    device_of(await front_end.sign_in())
    monkeypatch.setattr(discovery, "MAX_AGE", 0.0)
    issuer.bend(discovery=lambda document: {**document, "issuer": "https://evil.test"})
    assert result_of(await begun(front_end)) == INVALID


async def test_failure_is_not_kept(front_end: FrontEnd, issuer: Issuer) -> None:
    issuer.bend(faults={DISCOVERY: provider_server.with_status(500)})
    assert result_of(await begun(front_end)) == {"error": "provider_unavailable"}
    issuer.faults.clear()
    device_of(await front_end.sign_in())


async def test_keys_that_cannot_be_fetched_are_fetched_by_the_next_sign_in(
    front_end: FrontEnd, issuer: Issuer
) -> None:
    issuer.bend(faults={"/jwks": provider_server.with_status(500)})
    assert result_of(await front_end.authorize()) == {"error": "provider_unavailable"}
    issuer.faults.clear()
    device_of(await front_end.sign_in())


def with_member(name: str, value: Any) -> Change:
    return lambda document: {**document, name: value}


def without(name: str) -> Change:
    return lambda document: {key: document[key] for key in document if key != name}


DOCUMENTS: dict[str, Change] = {
    "another issuer": with_member("issuer", "https://evil.test"),
    "issuer with a slash": lambda document: {**document, "issuer": document["issuer"] + "/"},
    "no issuer": without("issuer"),
    "an array": lambda document: [document],
    "null": lambda document: None,
    "a text": lambda document: "x",
    "no authorization endpoint": without("authorization_endpoint"),
    "no token endpoint": without("token_endpoint"),
    "no keys": without("jwks_uri"),
    "http": with_member("token_endpoint", "http://evil.test/token"),
    "a file": with_member("jwks_uri", "file:///etc/passwd"),
    "a script": with_member("authorization_endpoint", "javascript:alert(1)"),
    "a user in the URL": with_member("token_endpoint", "https://a:b@evil.test/token"),
    "a line break": with_member("token_endpoint", "https://id.test/token\r\nX: y"),
    "a number": with_member("token_endpoint", 7),
    "a list": with_member("jwks_uri", ["https://id.test/jwks"]),
    "a long URL": with_member("token_endpoint", "https://id.test/" + "a" * 3000),
    "null as userinfo": with_member("userinfo_endpoint", None),
}


@pytest.mark.parametrize("change", DOCUMENTS.values(), ids=DOCUMENTS)
async def test_wrong_document_is_refused(
    front_end: FrontEnd, issuer: Issuer, change: Change
) -> None:
    issuer.bend(discovery=change)
    assert result_of(await begun(front_end)) == INVALID
    assert [request.path for request in issuer.requests] == [DISCOVERY]


class RemoteProvider(ProviderHttp):
    """A provider on another machine: it sends ``document`` for every URL."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.document = document

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Any:
        return self.document


ENDPOINTS = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
REMOTE = {"issuer": "https://id.test", **{name: f"https://id.test/{name}" for name in ENDPOINTS}}


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize("url", ["http://127.0.0.1:6379/", "HTTP://localhost/", "http://[::1]/"])
async def test_remote_provider_names_no_service_on_this_machine(name: str, url: str) -> None:
    await Discovery(RemoteProvider(REMOTE), "https://id.test").endpoints()
    with pytest.raises(InvalidResponse, match=name):
        await Discovery(RemoteProvider({**REMOTE, name: url}), "https://id.test").endpoints()


KEYS: dict[str, Change] = {
    "no keys": with_member("keys", []),
    "no list": with_member("keys", {}),
    "no member": lambda document: {},
    "an array": lambda document: document["keys"],
    "null": lambda document: None,
    "texts": with_member("keys", ["x", 7, None]),
    "too many": lambda document: {"keys": document["keys"] * 101},
    "keys for encryption": lambda document: {"keys": [{**document["keys"][0], "use": "enc"}]},
    "keys for another algorithm": lambda document: {
        "keys": [{**document["keys"][0], "alg": "RS512"}]
    },
    "two keys with one id": lambda document: {
        "keys": [*document["keys"], jwk_of(rsa_key("other"), kid="first")]
    },
    "a symmetric key": with_member("keys", [{"kty": "oct", "k": "AAAA", "kid": "first"}]),
    "a broken key": with_member("keys", [{"kty": "RSA", "n": "!", "e": "AQAB", "kid": "first"}]),
    "a number as the modulus": with_member(
        "keys", [{"kty": "RSA", "n": 7, "e": 3, "kid": "first"}]
    ),
    "an unknown curve": with_member("keys", [{"kty": "EC", "crv": "x", "kid": "first"}]),
    "none as the algorithm": lambda document: {"keys": [{**document["keys"][0], "alg": "none"}]},
    "a list as the id": lambda document: {"keys": [{**document["keys"][0], "kid": ["first"]}]},
    "a short key": lambda document: {"keys": [jwk_of(rsa_key("short", 1024), kid="first")]},
}


@pytest.mark.parametrize("change", KEYS.values(), ids=KEYS)
async def test_wrong_keys_are_refused(front_end: FrontEnd, issuer: Issuer, change: Change) -> None:
    issuer.bend(jwks=change)
    if change is KEYS["a short key"]:
        issuer.bend(sign=signing.sign_with(rsa_key("short", 1024)))
    assert result_of(await front_end.authorize()) == INVALID


async def test_key_among_unusable_ones_is_used(front_end: FrontEnd, issuer: Issuer) -> None:
    unusable = [
        {"kty": "RSA"},
        {"kty": "x"},
        7,
        {"kty": "oct", "k": "AAAA", "kid": "first"},
        {"kty": "RSA", "alg": "none", "kid": "first"},
        {"kty": "RSA", "alg": ["RS256"], "kid": "first"},
    ]
    issuer.bend(jwks=lambda document: {"keys": [*unusable, *document["keys"]]})
    device_of(await front_end.sign_in())
