"""No secret of a flow leaves the service except to the person whose flow it is."""

import json
import logging

import asyncpg
import pytest
from aiohttp import hdrs
from yarl import URL

from service.accounts.identity_providers.provider import code_challenge
from service.logs import JsonFormatter
from tests.accounts.identity_providers import provider_server
from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, device_of, result_of
from tests.accounts.identity_providers.issuer import Issuer
from tests.accounts.mailed_links import BROWSER
from tests.conftest import Client, Device, Response

BEGIN = "/api/auth/oauth/issuer"
IDENTITIES = "/api/user/identities"


@pytest.fixture
def front_end(client: Client, issuer: Issuer) -> FrontEnd:
    issuer.profile["email"] = "alice@example.test"
    return FrontEnd(client, issuer)


def assert_private(response: Response) -> None:
    """Assert that no cache keeps the response, and that its page names its URL to no other site."""
    assert response.headers[hdrs.CACHE_CONTROL] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"


async def test_redirects_name_no_url_to_another_site(client: Client, front_end: FrontEnd) -> None:
    device = await client.open_account("bob")
    started = await client.post(
        f"{IDENTITIES}/issuer", {"redirect_to": FRONT_END}, token=device.access
    )
    path = URL(started.body["authorization_url"]).raw_path_qs
    begun = await client.get(path, allow_redirects=False)
    assert_private(begun)
    assert_private(
        await front_end.call_back(await front_end.provider.consent(begun.headers["Location"]))
    )
    assert_private(await front_end.authorize())
    front_end.provider.bend(faults={"/token": provider_server.with_status(400)})
    response = await front_end.authorize()
    assert "error" in result_of(response)
    assert_private(response)


async def test_page_of_an_error_shows_no_secret(client: Client, front_end: FrontEnd) -> None:
    query = {"state": "the-state", "code": "the-code", "iss": "the-issuer"}
    for path in (f"{BEGIN}/callback", "/api/auth/oauth/unknown/callback"):
        response = await client.get(path, params=query, headers=BROWSER, allow_redirects=False)
        assert response.status in (400, 404)
        assert response.headers[hdrs.CONTENT_TYPE].startswith("text/html")
        assert_private(response)
        assert not any(value in response.body for value in query.values())
    response = await client.get(BEGIN, params={"start": "the-start"}, headers=BROWSER)
    assert response.status == 400
    assert_private(response)
    assert "the-start" not in response.body


async def test_logs_events_and_export_have_no_secret(
    client: Client,
    front_end: FrontEnd,
    issuer: Issuer,
    db: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    # The access log of the provider, which runs in this process too.
    caplog.set_level(logging.WARNING, "aiohttp.access")
    device = await client.open_account("alice")
    await db.execute("update users set email_verified_at = now(), ever_verified = true")
    secrets = {front_end.verifier, issuer.client_secret}

    async def run(path: str) -> str:
        """Run a flow, and keep its secrets. Return the code for the front-end."""
        begun = await client.get(path, allow_redirects=False)
        secrets.add(URL(begun.headers["Location"]).query["state"])
        secrets.add(URL(begun.headers["Location"]).query["nonce"])
        secrets.update(cookie.value for cookie in client.http.session.cookie_jar)
        url = await issuer.consent(begun.headers["Location"])
        secrets.add(url.query["code"])
        code = result_of(await front_end.call_back(url))["code"]
        # The state and the code of the provider are used.
        assert (await front_end.call_back(url)).status == 400
        secrets.add(code)
        return code

    started = await client.post(
        f"{IDENTITIES}/issuer", {"redirect_to": FRONT_END}, token=device.access
    )
    start = URL(started.body["authorization_url"])
    secrets.add(start.query["start"])
    body = {"code": await run(start.raw_path_qs)}
    assert (await client.post(IDENTITIES, body, token=device.access)).status == 200
    assert (await client.post(IDENTITIES, body, token=device.access)).status == 401

    begin = URL(BEGIN).with_query(
        redirect_to=FRONT_END, code_challenge=code_challenge(front_end.verifier)
    )
    signed_in: Device = device_of(await front_end.exchange(code := await run(str(begin))))
    secrets.update((signed_in.access, signed_in.refresh))
    assert (await front_end.exchange(code)).status == 401
    issuer.bend(faults={"/token": provider_server.with_status(400)})
    await front_end.authorize()
    secrets.update(issuer.access_tokens)

    events = await client.get("/api/user/events", token=device.access)
    export = await client.get("/api/user/export", token=device.access)
    rows = await db.fetch("select * from events")
    texts = {
        "the request log": client.log.getvalue(),
        "the other log": "\n".join(map(JsonFormatter().format, caplog.records)),
        "the plain log": caplog.text,
        "the events": json.dumps(events.body) + str(rows),
        "the export": json.dumps(export.body),
    }
    # Otherwise the test would prove nothing.
    assert "/api/auth/oauth/{provider}/callback" in texts["the request log"]
    assert "identity provider failed" in texts["the other log"]
    assert "provider_code_reused" in texts["the events"]
    assert issuer.url in texts["the export"]
    for name, text in texts.items():
        for secret in secrets:
            assert secret not in text, f"{name} contains {secret}"
