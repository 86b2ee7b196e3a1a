"""A provider that is down, slow or answers nonsense: a clear error, and nothing else happens."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from service.accounts.identity_providers import provider
from tests.accounts.identity_providers import provider_server
from tests.accounts.identity_providers.flows import (
    FRONT_END,
    FrontEnd,
    device_of,
    result_of,
    settings_of,
)
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.identity_providers.provider_server import Fault
from tests.conftest import Client, MakeClient

UNAVAILABLE, INVALID = "provider_unavailable", "provider_response_invalid"

FAULTS: dict[str, tuple[Fault, str]] = {
    "silent": (provider_server.slow, UNAVAILABLE),
    "stalled": (provider_server.stalled, UNAVAILABLE),
    "dripping": (provider_server.dripping, UNAVAILABLE),
    "dropped": (provider_server.dropped, UNAVAILABLE),
    "truncated": (provider_server.truncated, UNAVAILABLE),
    "status 500": (provider_server.with_status(500), UNAVAILABLE),
    "status 429": (provider_server.with_status(429), UNAVAILABLE),
    "status 404": (provider_server.with_status(404), INVALID),
    "huge": (provider_server.huge, INVALID),
    "huge in chunks": (provider_server.huge_chunked, INVALID),
    "compressed": (provider_server.compressed, INVALID),
    "compressed and huge": (provider_server.compressed_huge, INVALID),
    "redirected": (provider_server.redirected, INVALID),
    "an array": (provider_server.in_array, INVALID),
}
ENDLESS = (provider_server.slow, provider_server.stalled, provider_server.dripping)
PATHS = ("/token", "/jwks", "/userinfo")


@pytest.fixture
def front_end(client: Client, issuer: Issuer) -> FrontEnd:
    issuer.is_profile_in_id_token = False
    return FrontEnd(client, issuer)


@contextmanager
def short_timeout(fault: Fault) -> Iterator[None]:
    """Wait a short time for a response that has no end.

    For the others the timeout of the service stays: a busy machine responds late, too.
    """
    with pytest.MonkeyPatch.context() as patch:
        if fault in ENDLESS:
            patch.setattr(provider, "TIMEOUT", 0.3)
        yield


@pytest.mark.parametrize(("fault", "error"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("path", PATHS)
async def test_fault_is_a_clear_error(
    front_end: FrontEnd,
    issuer: Issuer,
    client: Client,
    db: asyncpg.Connection,
    path: str,
    fault: Fault,
    error: str,
) -> None:
    callback = await issuer.consent(await front_end.begin())
    issuer.bend(faults={path: fault})
    with short_timeout(fault):
        async with asyncio.timeout(10):
            response = await front_end.call_back(callback)
    assert result_of(response) == {"error": error}
    assert await db.fetchval("select count(*) from users") == 0
    # The provider is used again once it works.
    issuer.faults.clear()
    device_of(await front_end.sign_in())


@pytest.mark.parametrize(("fault", "error"), FAULTS.values(), ids=FAULTS)
async def test_fault_of_the_discovery_is_a_clear_error(
    front_end: FrontEnd, issuer: Issuer, client: Client, fault: Fault, error: str
) -> None:
    issuer.bend(faults={"/.well-known/openid-configuration": fault})
    query = {"redirect_to": "https://app.example.test/signed-in", "code_challenge": "a" * 43}
    with short_timeout(fault):
        async with asyncio.timeout(10):
            response = await client.get(
                "/api/auth/oauth/issuer", params=query, allow_redirects=False
            )
    assert result_of(response) == {"error": error}


async def test_provider_that_is_down_is_a_clear_error(
    front_end: FrontEnd, issuer: Issuer, client: Client
) -> None:
    url = await issuer.consent(await front_end.begin())
    await issuer.stop()
    assert result_of(await front_end.call_back(url)) == {"error": UNAVAILABLE}
    response = await client.get("/api/auth/oauth/issuer", allow_redirects=False)
    # The discovery document is kept: the browser finds out that the provider is down.
    assert response.status == 302


async def test_provider_that_is_down_from_the_start_is_json_with_retry_after(
    issuer: Issuer, client: Client
) -> None:
    await issuer.stop()
    response = await client.get("/api/auth/oauth/issuer", allow_redirects=False)
    assert (response.status, response.body["code"]) == (503, UNAVAILABLE)
    assert response.headers["Retry-After"] == "10"


async def test_silent_provider_holds_no_connection_to_the_database(
    make_client: MakeClient, issuer: Issuer
) -> None:
    """More sign-ins wait for the provider than the pool has connections."""
    client = await make_client(
        oidc_providers=settings_of(issuer), redirect_urls=(FRONT_END,), database_pool_size=2
    )
    tabs = [FrontEnd(client, issuer) for _ in range(6)]
    urls = [await issuer.consent(await tab.begin()) for tab in tabs]
    issuer.bend(faults={"/token": provider_server.slow})
    waiting = [asyncio.create_task(tab.call_back(url)) for tab, url in zip(tabs, urls, strict=True)]
    async with asyncio.timeout(5):
        while len(issuer.received("/token")) < len(tabs):
            await asyncio.sleep(0)
        assert await client.register("alice")
        assert (await client.get("/api/articles")).status == 200
    assert not any(task.done() for task in waiting)
    await issuer.stop()
    responses = await asyncio.gather(*waiting)
    assert all(result_of(response) == {"error": UNAVAILABLE} for response in responses)


@pytest.mark.parametrize(
    "tokens",
    [
        {},
        {"id_token": "x"},
        {"access_token": "x"},
        {"id_token": None, "access_token": None},
        {"error": "invalid_grant"},
        {"error": {"a": ["\u202e" * 500]}},
    ],
)
async def test_token_response_without_tokens_is_refused(
    front_end: FrontEnd, issuer: Issuer, tokens: dict[str, object]
) -> None:
    issuer.bend(tokens=lambda _: tokens)
    assert result_of(await front_end.authorize()) == {"error": INVALID}


@pytest.mark.parametrize("token", ["a\r\nX: y", "ü", "a\0", "\ud800"])
async def test_access_token_that_no_header_can_have_is_a_clear_error(
    front_end: FrontEnd, issuer: Issuer, token: str
) -> None:
    issuer.bend(
        tokens=lambda tokens: {**tokens, "access_token": token},
        claims=lambda claims: {key: claims[key] for key in claims if key != "at_hash"},
    )
    assert result_of(await front_end.authorize())["error"] in (UNAVAILABLE, INVALID)


@pytest.mark.parametrize(
    "change", [{"sub": "another"}, {"sub": None}, {"sub": 7}, {"sub": ["248289761001"]}]
)
async def test_userinfo_of_another_subject_is_refused(
    front_end: FrontEnd, issuer: Issuer, change: dict[str, object]
) -> None:
    issuer.bend(userinfo=lambda claims: {**claims, **change})
    assert result_of(await front_end.authorize()) == {"error": INVALID}


async def test_userinfo_has_the_email_when_the_id_token_has_none(
    front_end: FrontEnd, issuer: Issuer
) -> None:
    response = await front_end.sign_in()
    assert response.body["user"]["email"] == "jake@example.test"


@pytest.mark.parametrize("iss", [None, "https://evil.test", "", "\0"])
async def test_callback_names_the_issuer(
    front_end: FrontEnd, issuer: Issuer, iss: str | None
) -> None:
    """RFC 9207: the provider announces that each callback has ``iss``."""

    def change(query: dict[str, str]) -> dict[str, str]:
        given = {**query, "iss": iss} if iss is not None else {**query}
        if iss is None:
            del given["iss"]
        return given

    issuer.bend(callback=change)
    response = await front_end.authorize()
    if response.status == 302:
        assert result_of(response) == {"error": INVALID}
    else:
        assert response.status == 400
    assert issuer.received("/token") == []


async def test_issuer_of_the_callback_is_checked_when_the_provider_does_not_announce_it(
    front_end: FrontEnd, issuer: Issuer
) -> None:
    name = "authorization_response_iss_parameter_supported"
    issuer.bend(discovery=lambda document: {k: document[k] for k in document if k != name})
    issuer.bend(callback=lambda query: {**query, "iss": "https://evil.test"})
    assert result_of(await front_end.authorize()) == {"error": INVALID}
    issuer.bend(callback=lambda query: {k: query[k] for k in query if k != "iss"})
    device_of(await front_end.sign_in())


async def test_client_authenticates_by_post_when_the_provider_wants_it(
    front_end: FrontEnd, issuer: Issuer
) -> None:
    methods = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    issuer.bend(discovery=lambda document: {**document, **methods})
    device_of(await front_end.sign_in())
    request = issuer.received("/token")[0]
    assert "Authorization" not in request.headers
    assert request.form["client_secret"] == issuer.client_secret


async def test_code_of_the_provider_is_exchanged_with_its_verifier(
    front_end: FrontEnd, issuer: Issuer
) -> None:
    device_of(await front_end.sign_in())
    form = issuer.received("/token")[0].form
    assert len(form["code_verifier"]) == 43
    assert form["redirect_uri"] == "http://localhost:3000/api/auth/oauth/issuer/callback"


async def test_log_names_the_provider_and_no_secret(
    front_end: FrontEnd, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.bend(tokens=lambda _: {"error": "invalid_client\nlevel=error " + "x" * 500})
    issuer.bend(faults={"/token": provider_server.with_status(400)})
    url = await issuer.consent(await front_end.begin())
    await front_end.call_back(url)
    (line,) = [record.getMessage() for record in caplog.records if "provider" in record.name]
    assert line.startswith("identity provider failed: provider=issuer error=token: status 400, inv")
    assert "\n" not in line and len(line) < 320
    for secret in (issuer.client_secret, url.query["code"], url.query["state"]):
        assert secret not in caplog.text
