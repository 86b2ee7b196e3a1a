"""Whole flows with a certified OpenID provider, its forms and its cookies."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import asyncpg
import pytest
from aiohttp import ClientSession
from yarl import URL

from service.settings.identity_providers import OidcProvider
from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, device_of, result_of
from tests.accounts.proofs import make_proofs_stale
from tests.conftest import Client, Device, MakeClient
from tests.oidc_provider.process import CLIENT_SECRET, OIDCProvider
from tests.responses import assert_error

INVALID = {"error": "provider_response_invalid"}
REAUTHENTICATE = "/api/auth/reauthenticate"


@dataclass
class Person:
    """A person with a login at a provider, in one browser."""

    provider: OIDCProvider
    session: ClientSession
    login: str = "jake"
    urls: list[str] = field(default_factory=list)
    """The URLs of the provider that this person was sent to."""

    async def consent(self, url: URL) -> URL:
        """Log in and consent. Return the URL of the callback."""
        self.urls.append(str(url))
        return URL(await self.provider.log_in(self.session, str(url), self.login), encoded=True)


def registered(
    provider: OIDCProvider, name: str, algorithms: tuple[str, ...] = ("RS256",), **metadata: str
) -> OidcProvider:
    """Register the service at the provider. Return the setting for it."""
    callback = f"http://localhost:3000/api/auth/oauth/{name}/callback"
    provider.add_client(callback, client_id=name, **metadata)
    return OidcProvider(name, provider.issuer, name, CLIENT_SECRET, name, algorithms)


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    """Yield the browser of the person at the provider."""
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def client(
    make_client: MakeClient, oidc_provider: OIDCProvider, other_oidc_provider: OIDCProvider
) -> Client:
    return await make_client(
        oidc_providers=(registered(oidc_provider, "one"), registered(other_oidc_provider, "two")),
        redirect_urls=(FRONT_END,),
    )


@pytest.fixture
def front_end(client: Client, oidc_provider: OIDCProvider, session: ClientSession) -> FrontEnd:
    return FrontEnd(client, Person(oidc_provider, session), "one")


@pytest.fixture
def other_front_end(
    client: Client, other_oidc_provider: OIDCProvider, session: ClientSession
) -> FrontEnd:
    return FrontEnd(client, Person(other_oidc_provider, session), "two")


async def test_person_registers_and_signs_in_again(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection
) -> None:
    first = await front_end.sign_in()
    assert await client.is_authenticated(device_of(first).access)
    assert first.body["user"]["username"] == "jake"
    assert first.body["user"]["email"] == "jake@example.test"
    second = await front_end.sign_in()
    assert second.body["user"]["username"] == "jake"
    rows = await db.fetch("select issuer, subject, is_email_verified from identities")
    assert [tuple(row) for row in rows] == [(front_end.provider.provider.issuer, "jake", True)]


async def test_claims_in_the_id_token_do_as_well_as_those_of_userinfo(
    other_front_end: FrontEnd,
) -> None:
    response = await other_front_end.sign_in()
    assert response.body["user"]["email"] == "jake@example.test"


async def test_same_subject_at_two_providers_is_two_identities(
    front_end: FrontEnd,
    other_front_end: FrontEnd,
    other_oidc_provider: OIDCProvider,
    db: asyncpg.Connection,
) -> None:
    other_oidc_provider.set_claims("jake", email="other@example.test", email_verified=True)
    device_of(await front_end.sign_in())
    device_of(await other_front_end.sign_in())
    assert await db.fetchval("select count(distinct user_id) from identities") == 2


async def test_callback_of_one_provider_given_to_the_other_is_refused(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection
) -> None:
    url = await front_end.provider.consent(await front_end.begin())
    mixed = url.with_path("/api/auth/oauth/two/callback").with_query(url.query)
    response = await client.get(mixed.raw_path_qs, allow_redirects=False)
    assert response.status == 400
    assert await db.fetchval("select count(*) from users") == 0


@pytest.mark.parametrize(
    ("claims", "verified"),
    [
        ({}, False),
        ({"email_verified": None}, False),
        ({"email_verified": "false"}, False),
        ({"email_verified": "true"}, False),
        ({"email_verified": 1}, False),
        ({"email_verified": False}, False),
        ({"email_verified": True}, True),
    ],
)
async def test_email_is_verified_only_by_json_true(
    front_end: FrontEnd,
    oidc_provider: OIDCProvider,
    db: asyncpg.Connection,
    claims: dict[str, object],
    verified: bool,
) -> None:
    oidc_provider.set_claims("jake", email="jake@example.test", **claims)
    device_of(await front_end.sign_in())
    query = "select email_verified_at is not null from users"
    assert await db.fetchval(query) is verified


async def test_person_who_cancels_is_told_so(
    front_end: FrontEnd, oidc_provider: OIDCProvider, session: ClientSession
) -> None:
    url = await oidc_provider.cancel(session, str(await front_end.begin()))
    assert result_of(await front_end.call_back(URL(url))) == {"error": "provider_denied"}


async def test_code_of_the_provider_is_used_once(front_end: FrontEnd, client: Client) -> None:
    """A thief has seen the callback URL, and begins a flow in their own browser."""
    url = await front_end.provider.consent(await front_end.begin())
    device_of(await front_end.exchange(result_of(await front_end.call_back(url))["code"]))
    thief = FrontEnd(client, front_end.provider, "one")
    own = await thief.begin()
    mixed = url.update_query(state=own.query["state"])
    assert result_of(await thief.call_back(mixed)) == INVALID


async def test_code_of_another_flow_does_not_fit_the_verifier(
    front_end: FrontEnd, client: Client
) -> None:
    """An attacker puts the code of a victim into the callback of a flow of their own."""
    victim = await front_end.provider.consent(await front_end.begin())
    attacker = FrontEnd(client, front_end.provider, "one")
    own = await attacker.begin()
    stolen = URL(own.query["redirect_uri"]).with_query(
        code=victim.query["code"], state=own.query["state"], iss=victim.query["iss"]
    )
    assert result_of(await attacker.call_back(stolen)) == INVALID


async def test_user_links_and_unlinks_an_identity(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection
) -> None:
    device = await client.open_account("alice")
    await db.execute("update users set email_verified_at = now(), ever_verified = true")
    linked = (await front_end.link(device.access)).body["identity"]
    assert linked["provider"] == "one"
    assert (await front_end.sign_in()).body["user"]["username"] == "alice"
    path = f"/api/user/identities/{linked['id']}"
    assert (await client.delete(path, token=device.access)).status == 204
    assert (await front_end.sign_in()).body["user"]["username"] == "jake"


async def test_provider_verifies_the_person_again(
    front_end: FrontEnd, client: Client, db: asyncpg.Connection
) -> None:
    device = device_of(await front_end.sign_in())
    assert (await client.get("/api/user/export", token=device.access)).status == 403
    code = await front_end.start(device.access, f"{REAUTHENTICATE}/one")
    body = {"provider_code": code}
    proved = Device.of(await client.post(REAUTHENTICATE, body, token=device.access))
    assert (await client.get("/api/user/export", token=proved.access)).status == 200
    await make_proofs_stale(client, db)
    assert (await client.get("/api/user/export", token=proved.access)).status == 403


async def test_login_that_the_provider_remembers_is_no_proof(
    front_end: FrontEnd, client: Client, oidc_provider: OIDCProvider, session: ClientSession
) -> None:
    """The person removes the demand from the URL. The provider does not ask them again."""
    device = device_of(await front_end.sign_in())
    started = await client.post(
        f"{REAUTHENTICATE}/one", {"redirect_to": FRONT_END}, token=device.access
    )
    path = URL(started.body["authorization_url"]).raw_path_qs
    begun = await client.get(path, allow_redirects=False)
    location = begun.headers["Location"].replace("&prompt=login&max_age=0", "")
    url = URL(await oidc_provider.log_in(session, location, "jake"), encoded=True)
    assert result_of(await front_end.call_back(url)) == {"error": "proof_not_fresh"}


async def test_another_login_at_the_provider_proves_nothing(
    front_end: FrontEnd, client: Client
) -> None:
    device = device_of(await front_end.sign_in())
    front_end.provider.login = "mallory"
    code = await front_end.start(device.access, f"{REAUTHENTICATE}/one")
    response = await client.post(REAUTHENTICATE, {"provider_code": code}, token=device.access)
    assert_error(response, 401, "identity_unknown", {"identity": ["is unknown"]})


async def test_keys_of_the_provider_are_replaced(
    front_end: FrontEnd, oidc_provider: OIDCProvider
) -> None:
    device_of(await front_end.sign_in())
    oidc_provider.rotate_keys()
    device_of(await front_end.sign_in())


@pytest.mark.parametrize(
    ("signed", "pinned", "accepted"),
    [
        ("ES256", ("ES256",), True),
        ("ES256", ("RS256", "ES256"), True),
        ("ES256", ("RS256",), False),
        ("RS256", ("ES256",), False),
        ("HS256", ("RS256",), False),
    ],
)
async def test_id_token_has_an_algorithm_of_the_settings(
    make_client: MakeClient,
    oidc_provider: OIDCProvider,
    session: ClientSession,
    signed: str,
    pinned: tuple[str, ...],
    accepted: bool,
) -> None:
    provider = registered(oidc_provider, "pinned", pinned, id_token_signed_response_alg=signed)
    client = await make_client(oidc_providers=(provider,), redirect_urls=(FRONT_END,))
    front_end = FrontEnd(client, Person(oidc_provider, session), "pinned")
    result = result_of(await front_end.authorize())
    assert ("code" in result) is accepted, result


async def test_wrong_client_secret_is_refused_and_named_in_the_log(
    make_client: MakeClient,
    oidc_provider: OIDCProvider,
    session: ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registered(oidc_provider, "wrong")
    provider = OidcProvider("wrong", oidc_provider.issuer, "wrong", "another secret", "Wrong")
    client = await make_client(oidc_providers=(provider,), redirect_urls=(FRONT_END,))
    front_end = FrontEnd(client, Person(oidc_provider, session), "wrong")
    assert result_of(await front_end.authorize()) == INVALID
    message = "identity provider failed: provider=wrong error=token: status 401, invalid_client"
    assert message in caplog.text
