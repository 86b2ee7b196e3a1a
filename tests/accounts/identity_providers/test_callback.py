"""The callback of a provider: whose it is, and what it gives to whom."""

import asyncio

import asyncpg
import pytest
from yarl import URL

from service.accounts.identity_providers.provider import code_challenge
from service.accounts.sessions.opaque_tokens import digest_of
from tests.accounts.identity_providers.flows import FRONT_END, FrontEnd, result_of, settings_of
from tests.accounts.identity_providers.issuer import Issuer
from tests.conftest import Client, Device, MakeClient, Response
from tests.responses import assert_error, assert_invalid

OTHER_STATE = "is unknown, was used, has expired, or is of another browser"

COUNTS = """
    select (select count(*) from users), (select count(*) from identities),
        (select count(*) from sessions)
"""


async def assert_nothing_happened(db: asyncpg.Connection) -> None:
    assert tuple(await db.fetchrow(COUNTS)) == (0, 0, 0)


def forget_cookies(client: Client) -> None:
    """Use another browser from now on."""
    client.http.session.cookie_jar.clear()


async def callback_url(client: Client, issuer: Issuer) -> URL:
    return await issuer.consent(await FrontEnd(client, issuer).begin())


async def test_callback_gives_a_code_to_the_front_end_and_touches_no_account(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    response = await FrontEnd(client, issuer).authorize()
    assert set(result_of(response)) == {"code"}
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    await assert_nothing_happened(db)


async def test_callback_responds_like_a_login_without_a_front_end(
    client: Client, issuer: Issuer
) -> None:
    begun = await client.get("/api/auth/oauth/issuer", allow_redirects=False)
    url = await issuer.consent(URL(begun.headers["Location"]))
    response = await FrontEnd(client, issuer).call_back(url)
    assert response.headers["Cache-Control"] == "no-store"
    assert await client.is_authenticated(Device.of(response).access)


async def test_cookie_is_deleted_after_the_callback(client: Client, issuer: Issuer) -> None:
    await FrontEnd(client, issuer).authorize()
    assert list(client.http.session.cookie_jar) == []


async def test_state_of_another_browser_is_invalid_and_stays_unused(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    url = await callback_url(client, issuer)
    cookies = list(client.http.session.cookie_jar)
    forget_cookies(client)
    front_end = FrontEnd(client, issuer)
    assert_invalid(await front_end.call_back(url), 400, state=OTHER_STATE)
    await assert_nothing_happened(db)
    client.http.session.cookie_jar.update_cookies({c.key: c.value for c in cookies})
    assert (await front_end.call_back(url)).status == 302


async def test_cookie_of_another_flow_does_not_fit(client: Client, issuer: Issuer) -> None:
    url = await callback_url(client, issuer)
    (cookie,) = client.http.session.cookie_jar
    name = cookie.key
    forget_cookies(client)
    await callback_url(client, issuer)
    (other,) = client.http.session.cookie_jar
    client.http.session.cookie_jar.update_cookies({name: other.value})
    assert_invalid(await FrontEnd(client, issuer).call_back(url), 400, state=OTHER_STATE)


async def test_state_is_used_once(client: Client, issuer: Issuer) -> None:
    url = await callback_url(client, issuer)
    jar = client.http.session.cookie_jar
    cookies = {cookie.key: cookie.value for cookie in jar}
    front_end = FrontEnd(client, issuer)
    assert (await front_end.call_back(url)).status == 302
    jar.update_cookies(cookies)
    assert_invalid(await front_end.call_back(url), 400, state=OTHER_STATE)
    assert len(issuer.received("/token")) == 1


async def test_state_expires_after_ten_minutes(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    url = await callback_url(client, issuer)
    await db.execute("update one_time_tokens set expires_at = expires_at - interval '10 min 1 s'")
    assert_invalid(await FrontEnd(client, issuer).call_back(url), 400, state=OTHER_STATE)


@pytest.mark.parametrize("state", ["", "x", "\0", "a" * 101, "a" * 43])
async def test_invalid_state_is_a_clear_error(client: Client, issuer: Issuer, state: str) -> None:
    url = URL("/api/auth/oauth/issuer/callback").with_query(code="x", state=state)
    assert (await FrontEnd(client, issuer).call_back(url)).status == 400


@pytest.mark.parametrize("value", [b"", b"x", b"A" * 44, b"A" * 42 + b"=", b"\xff\xfe", b'"\\377"'])
async def test_cookie_that_is_no_secret_is_a_clear_error(client: Client, value: bytes) -> None:
    """The client chooses the state, so it knows the name of the cookie."""
    state = "A" * 43
    head = (
        f"GET /api/auth/oauth/issuer/callback?code=x&state={state} HTTP/1.1\r\n"
        f"Host: localhost\r\nConnection: close\r\nCookie: oauth-{digest_of(state).hex()[:16]}="
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", client.http.port)
    writer.write(head.encode() + value + b"\r\n\r\n")
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert response.startswith(b"HTTP/1.1 400 ")
    assert OTHER_STATE.encode() in response


async def test_two_tabs_finish_in_any_order(client: Client, issuer: Issuer) -> None:
    first, second = FrontEnd(client, issuer), FrontEnd(client, issuer)
    urls = [await issuer.consent(await each.begin()) for each in (first, second)]
    codes = [
        result_of(await tab.call_back(url))["code"]
        for tab, url in ((second, urls[1]), (first, urls[0]))
    ]
    assert (await second.exchange(codes[0])).status == 200
    assert (await first.exchange(codes[1])).status == 200


@pytest.mark.parametrize("error", ["access_denied", "server_error", "<script>", "x" * 4000])
async def test_error_of_the_provider_is_one_code_at_the_front_end(
    client: Client, issuer: Issuer, error: str
) -> None:
    issuer.bend(callback=lambda query: {"state": query["state"], "error": error})
    response = await FrontEnd(client, issuer).authorize()
    assert result_of(response) == {"error": "provider_denied"}


async def test_error_of_the_provider_is_json_without_a_front_end(
    client: Client, issuer: Issuer
) -> None:
    issuer.bend(callback=lambda query: {"state": query["state"], "error": "access_denied"})
    begun = await client.get("/api/auth/oauth/issuer", allow_redirects=False)
    url = await issuer.consent(URL(begun.headers["Location"]))
    response = await FrontEnd(client, issuer).call_back(url)
    assert_error(response, 403, "provider_denied", {"provider": ["denied the sign-in"]})


async def test_callback_of_another_provider_is_invalid(
    make_client: MakeClient, issuer: Issuer, other_issuer: Issuer, db: asyncpg.Connection
) -> None:
    client = await make_client(
        oidc_providers=settings_of(issuer, other_issuer), redirect_urls=(FRONT_END,)
    )
    url = await callback_url(client, issuer)
    moved = URL("/api/auth/oauth/other/callback").with_query(url.query)
    assert_invalid(await FrontEnd(client, issuer).call_back(moved), 400, state=OTHER_STATE)
    assert other_issuer.received("/token") == []
    await assert_nothing_happened(db)


async def test_provider_that_was_removed_completes_no_flow(
    client: Client, issuer: Issuer, make_client: MakeClient
) -> None:
    url = await callback_url(client, issuer)
    without = await make_client(redirect_urls=(FRONT_END,))
    response: Response = await FrontEnd(without, issuer).call_back(url)
    assert_error(response, 404, "not_found", {"provider": ["not found"]})


async def test_code_after_the_callback_is_stored_as_a_digest(
    client: Client, issuer: Issuer, db: asyncpg.Connection
) -> None:
    front_end = FrontEnd(client, issuer)
    code = await front_end.code()
    rows = str(await db.fetch("select * from one_time_tokens"))
    assert code not in rows and front_end.verifier not in rows
    assert code_challenge(front_end.verifier) in rows
