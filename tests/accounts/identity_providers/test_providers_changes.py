"""The operator changes the providers in the settings between two steps of a flow."""

from typing import Any

import asyncpg
import pytest
from yarl import URL

from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, device_of, settings_of
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.two_factor.authenticator_app import AuthenticatorApp, second_step, turn_on
from tests.conftest import Client, Device, MakeClient, Response
from tests.responses import assert_error

IDENTITIES = "/api/user/identities"
REAUTHENTICATE = "/api/auth/reauthenticate"
INVALID_CODE = (401, "provider_code_invalid", {"code": ["is invalid"]})
INVALID_CHALLENGE = (401, "challenge_invalid", {"challenge": ["is invalid"]})
NOT_FOUND = (404, "not_found", {"provider": ["not found"]})
INVALID_STATE = {"state": ["is unknown, was used, has expired, or is of another browser"]}


@pytest.fixture(params=["removed", "replaced"])
async def changed(
    request: pytest.FixtureRequest, make_client: MakeClient, other_issuer: Issuer
) -> Client:
    """Return a client of the service after the change: its provider has another issuer, or none."""
    other_issuer.name = "issuer"
    providers = settings_of(other_issuer) if request.param == "replaced" else ()
    return await make_client(oidc_providers=providers, redirect_urls=(FRONT_END,))


@pytest.fixture
def front_end(client: Client, issuer: Issuer) -> FrontEnd:
    issuer.profile["email"] = "alice@example.test"
    return FrontEnd(client, issuer)


@pytest.fixture
async def device(client: Client, db: asyncpg.Connection) -> Device:
    """Return a device of Alice, whose email is verified."""
    device = await client.open_account("alice")
    await db.execute("update users set email_verified_at = now(), ever_verified = true")
    return device


async def open_in_same_browser(changed: Client, client: Client, url: URL) -> Response:
    """Open a URL at the changed service, with the cookies of the service before."""
    cookies = {cookie.key: cookie.value for cookie in client.http.session.cookie_jar}
    return await changed.get(url.raw_path_qs, cookies=cookies, allow_redirects=False)


def assert_unknown(response: Response, other_issuer: Issuer) -> None:
    """Assert that the provider or its flow is unknown, and the other issuer got no request."""
    if response.status == 404:
        assert_error(response, *NOT_FOUND)
    else:
        assert_error(response, 400, "invalid_input", INVALID_STATE)
    assert other_issuer.received("/token") == []


async def count(db: asyncpg.Connection, table: str) -> Any:
    return await db.fetchval(f"select count(*) from {table}")  # noqa: S608


async def test_callback_completes_no_flow(
    front_end: FrontEnd, changed: Client, other_issuer: Issuer, db: asyncpg.Connection
) -> None:
    url = await front_end.provider.consent(await front_end.begin())
    response = await open_in_same_browser(changed, front_end.client, url)
    assert_unknown(response, other_issuer)
    assert await count(db, "users") == 0


async def test_exchange_signs_in_no_person(
    front_end: FrontEnd, changed: Client, db: asyncpg.Connection
) -> None:
    device_of(await front_end.sign_in())
    code = await front_end.code()
    front_end.client = changed
    assert_error(await front_end.exchange(code), *INVALID_CODE)
    assert await count(db, "sessions") == 1


async def test_second_step_signs_in_no_person(
    front_end: FrontEnd, device: Device, changed: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = AuthenticatorApp(monkeypatch)
    await turn_on(front_end.client, device, app)
    challenge = (await front_end.sign_in()).body["challenge"]
    response = await second_step(changed, challenge, app.next_code())
    assert_error(response, *INVALID_CHALLENGE)


@pytest.mark.parametrize("path", [f"{IDENTITIES}/issuer", f"{REAUTHENTICATE}/issuer"])
async def test_prepared_flow_does_not_begin(
    front_end: FrontEnd, device: Device, changed: Client, other_issuer: Issuer, path: str
) -> None:
    given = {"redirect_to": FRONT_END}
    started = await front_end.client.post(path, given, token=device.access)
    url = URL(started.body["authorization_url"])
    response = await open_in_same_browser(changed, front_end.client, url)
    assert_unknown(response, other_issuer)


async def test_code_links_nothing(
    front_end: FrontEnd, device: Device, changed: Client, db: asyncpg.Connection
) -> None:
    code = await front_end.start(device.access, f"{IDENTITIES}/issuer")
    response = await changed.post(IDENTITIES, {"code": code}, token=device.access)
    assert_error(response, *INVALID_CODE)
    assert await count(db, "identities") == 0


async def test_code_proves_nothing(front_end: FrontEnd, device: Device, changed: Client) -> None:
    assert (await front_end.link(device.access)).status == 200
    code = await front_end.start(device.access, f"{REAUTHENTICATE}/issuer")
    response = await changed.post(REAUTHENTICATE, {"provider_code": code}, token=device.access)
    assert_error(response, *INVALID_CODE)


async def test_identity_is_no_method_of_a_fresh_proof(
    front_end: FrontEnd, changed: Client, db: asyncpg.Connection
) -> None:
    device = device_of(await front_end.sign_in())
    response = await changed.get("/api/user/export", token=device.access)
    assert (response.status, response.body["methods"]) == (403, [])


async def test_another_name_for_the_same_issuer_keeps_its_identities(
    front_end: FrontEnd, issuer: Issuer, make_client: MakeClient
) -> None:
    before = device_of(await front_end.sign_in())
    issuer.name = "renamed"
    client = await make_client(oidc_providers=settings_of(issuer), redirect_urls=(FRONT_END,))
    listed = await client.get(IDENTITIES, token=before.access)
    assert [identity["provider"] for identity in listed.body["identities"]] == ["renamed"]
    response = await FrontEnd(client, issuer, "renamed").sign_in()
    assert response.body["user"]["email"] == "alice@example.test"
