"""The begin of a sign-in: the URL of the provider, the cookie, and the allow list."""

import re
from typing import Any

import asyncpg
import pytest
from yarl import URL

from service.settings.rate_limit import Limit
from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, settings_of
from tests.accounts.identity_providers.issuer import CLIENT_ID, Issuer
from tests.conftest import Client, MakeClient
from tests.responses import assert_error, assert_invalid

CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


async def begin(client: Client, **query: str) -> Any:
    return await client.get("/api/auth/oauth/issuer", params=query, allow_redirects=False)


async def test_list_has_the_providers_that_are_set_up(make_client: MakeClient) -> None:
    client = await make_client(google_client_id="id", google_client_secret="secret")
    response = await client.get("/api/auth/oauth")
    url = "http://localhost:3000/api/auth/oauth/google"
    assert response.body == {"providers": [{"name": "google", "label": "Google", "url": url}]}


async def test_list_is_empty_without_providers(make_client: MakeClient) -> None:
    assert (await (await make_client()).get("/api/auth/oauth")).body == {"providers": []}


async def test_browser_is_redirected_to_the_provider(client: Client, issuer: Issuer) -> None:
    url = await FrontEnd(client, issuer).begin()
    assert str(url.with_query(None)) == f"{issuer.url}/authorize"
    query = dict(url.query)
    for name in ("state", "nonce", "code_challenge"):
        assert re.fullmatch(r"[\w-]{43}", query.pop(name))
    assert query == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": "http://localhost:3000/api/auth/oauth/issuer/callback",
        "scope": "openid email profile",
        "code_challenge_method": "S256",
    }


async def test_parameters_of_the_client_do_not_reach_the_provider(
    client: Client, issuer: Issuer
) -> None:
    given = {
        "login_hint": "victim@example.test",
        "prompt": "none",
        "scope": "offline_access",
        "state": "chosen",
        "nonce": "chosen",
        "redirect_uri": "https://evil.test/",
        "client_id": "other",
        "max_age": "9",
    }
    url = await FrontEnd(client, issuer).begin(**given)
    assert not set(url.query.values()) & set(given.values())
    assert not {"login_hint", "prompt", "max_age"} & url.query.keys()


async def test_state_and_its_secret_are_not_stored(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    response = await begin(client)
    (secret,) = re.findall(r"oauth-\w+=([\w-]{43});", response.headers["Set-Cookie"])
    state = URL(response.headers["Location"]).query["state"]
    (row,) = await db.fetch("select digest, data from one_time_tokens")
    assert state not in str(row) and secret not in str(row)


async def test_response_of_the_begin_is_not_cached(client: Client) -> None:
    response = await begin(client)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"


async def test_cookie_is_http_only_and_lax(client: Client) -> None:
    (cookie,) = (await begin(client)).headers.getall("Set-Cookie")
    assert re.fullmatch(
        r"oauth-[0-9a-f]{16}=[\w-]{43}; Path=/; Max-Age=600; HttpOnly; SameSite=Lax", cookie
    )


async def test_cookie_has_the_host_prefix_when_base_url_is_https(
    make_client: MakeClient, issuer: Issuer
) -> None:
    client = await make_client(
        oidc_providers=settings_of(issuer), base_url="https://accounts.example.test"
    )
    (cookie,) = (await begin(client)).headers.getall("Set-Cookie")
    assert re.fullmatch(r"__Host-oauth-\w+=[\w-]+; Path=/; .*; SameSite=Lax; Secure", cookie)


async def test_begun_flows_of_a_browser_have_a_bounded_number_of_cookies(client: Client) -> None:
    cookies = client.http.session.cookie_jar
    for _ in range(12):
        assert (await begin(client)).status == 302
    assert len(list(cookies)) == 8


NOT_ALLOWED = [
    "https://app.example.test.evil.test/signed-in",
    "https://app.example.testevil.test/signed-in",
    "https://app.example.test@evil.test/signed-in",
    "https://app.example.test:443@evil.test/signed-in",
    "https://evil.test/https://app.example.test/signed-in",
    "https://evil.test\\@app.example.test/signed-in",
    "https:\\\\app.example.test/signed-in",
    "//app.example.test/signed-in",
    "/signed-in",
    "javascript:alert(1)//app.example.test/signed-in",
    "javascript://app.example.test/signed-in%0aalert(1)",
    "data:text/html,https://app.example.test/signed-in",
    "http://app.example.test/signed-in",
    "https://app.example.test:8443/signed-in",
    "https://app.example.test:0/signed-in",
    "https://app.example.test:99999/signed-in",
    "https://app.example.test:/signed-in",
    "https://app.example.test/signed-in/../other",
    "https://app.example.test/signed-in/..",
    "https://app.example.test/./signed-in",
    "https://app.example.test//signed-in",
    "https://app.example.test/%73igned-in",
    "https://app.example.test/signed-in/",
    "https://app.example.test/signed-in/more",
    "https://app.example.test/signed-in?next=1",
    "https://app.example.test/signed-in?",
    "https://app.example.test/signed-in#code",
    "https://app.example.test/SIGNED-IN",
    "https://app.example.test/signed-in;x",
    "https://app.example.test./signed-in",
    "https://app.example.test",
    "https://app.exampl\u0435.test/signed-in",
    "https://app.example\u3002test/signed-in",
    " https://app.example.test/signed-in",
    "https://app.example.test/signed-in\t",
    "https://app.example.test/\nsigned-in",
    "https://[app.example.test/signed-in",
    "https://",
]


@pytest.mark.parametrize("redirect_to", NOT_ALLOWED)
async def test_redirect_to_must_be_on_the_list(client: Client, redirect_to: str) -> None:
    response = await begin(client, redirect_to=redirect_to, code_challenge=CHALLENGE)
    assert_invalid(response, 400, redirect_to="is not allowed: see REDIRECT_URLS")
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    "redirect_to",
    [
        "HTTPS://App.Example.TEST/signed-in",
        "https://app.example.test:443/signed-in",
    ],
)
async def test_another_spelling_of_an_allowed_url_leads_to_the_url_of_the_list(
    client: Client, issuer: Issuer, redirect_to: str
) -> None:
    response = await FrontEnd(client, issuer).authorize(redirect_to=redirect_to)
    assert response.headers["Location"].startswith(f"{FRONT_END}?code=")


async def test_url_that_is_no_longer_allowed_gets_no_code(
    client: Client, issuer: Issuer, make_client: MakeClient
) -> None:
    url = await issuer.consent(await FrontEnd(client, issuer).begin())
    changed = await make_client(oidc_providers=settings_of(issuer), redirect_urls=())
    changed.http.session.cookie_jar.update_cookies(
        {cookie.key: cookie.value for cookie in client.http.session.cookie_jar}
    )
    response = await FrontEnd(changed, issuer).call_back(url)
    assert (response.status, response.headers.get("Location")) == (400, None)


@pytest.mark.parametrize("missing", ["redirect_to", "code_challenge"])
async def test_redirect_and_challenge_go_together(client: Client, missing: str) -> None:
    given = {"redirect_to": FRONT_END, "code_challenge": CHALLENGE}
    del given[missing]
    assert_invalid(await begin(client, **given), 400, **{missing: "can't be blank"})


@pytest.mark.parametrize("challenge", ["x", "a" * 42, "a" * 44, "a" * 42 + "=", "a" * 42 + "/"])
async def test_challenge_must_be_a_sha_256_digest(client: Client, challenge: str) -> None:
    response = await begin(client, redirect_to=FRONT_END, code_challenge=challenge)
    message = "must be the SHA-256 digest of a code verifier in base64url"
    assert_invalid(response, 400, code_challenge=message)


@pytest.mark.parametrize("name", ["google", "github", "ISSUER", "issuer%00", "exchange", "x" * 99])
async def test_provider_that_is_not_set_up_is_unknown(client: Client, name: str) -> None:
    response = await client.get(f"/api/auth/oauth/{name}", allow_redirects=False)
    assert_error(response, 404, "not_found", {"provider": ["not found"]})


async def test_begin_is_rate_limited_for_each_ip_address(
    make_client: MakeClient, issuer: Issuer
) -> None:
    client = await make_client(oidc_providers=settings_of(issuer), provider_limit=Limit(2, 60))
    assert [(await begin(client)).status for _ in range(3)] == [302, 302, 429]


async def test_person_sees_a_page_when_the_begin_fails(client: Client) -> None:
    headers = {"Accept": "text/html"}
    response = await client.get("/api/auth/oauth/issuer?redirect_to=x", headers=headers)
    assert response.status == 400
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "You are not logged in" in response.body


async def test_person_sees_another_page_when_the_provider_is_down(
    client: Client, issuer: Issuer
) -> None:
    await issuer.stop()
    response = await client.get("/api/auth/oauth/issuer", headers={"Accept": "text/html"})
    assert (response.status, response.headers["Retry-After"]) == (503, "10")
    assert "Try it again in 1 min" in response.body
