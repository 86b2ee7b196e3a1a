"""The cookies of the flows of one browser."""

import pytest
from aiohttp import web

from service.accounts.identity_providers.browser_cookies import set_cookie
from service.settings.settings import Settings
from tests.accounts.identity_providers.flows import FrontEnd
from tests.accounts.identity_providers.issuer import Issuer
from tests.conftest import SETTINGS, Client

# Neither order of the names is the order of their ages.
NAMES = [f"oauth-{number}" for number in (5, 1, 9, 3, 7, 2, 8, 4, 6)]


def deleted(headers: list[str]) -> list[str]:
    """Return the names of the cookies that the ``Set-Cookie`` headers delete."""
    return [header.partition("=")[0] for header in headers if "Max-Age=0;" in header]


@pytest.mark.parametrize(("count", "over"), [(0, 0), (7, 0), (8, 1), (9, 2)])
def test_new_cookie_deletes_the_oldest_ones_over_the_bound(count: int, over: int) -> None:
    response = web.Response()
    set_cookie(Settings(**SETTINGS), response, "state", "secret", NAMES[:count])
    assert deleted(response.headers.getall("Set-Cookie")) == NAMES[:over]


def test_new_cookie_deletes_no_cookie_of_another_kind() -> None:
    others = ["session", "__Host-oauth-1", "xoauth-1", "oauth", "OAUTH-1"]
    response = web.Response()
    set_cookie(Settings(**SETTINGS), response, "state", "secret", [*others, *NAMES[:7]])
    assert deleted(response.headers.getall("Set-Cookie")) == []


async def test_callback_deletes_only_the_cookie_of_its_flow(client: Client, issuer: Issuer) -> None:
    front_end = FrontEnd(client, issuer)
    jar = client.http.session.cookie_jar
    first = await issuer.consent(await front_end.begin())
    (name,) = (cookie.key for cookie in jar)
    await front_end.begin()
    response = await front_end.call_back(first)
    assert deleted(response.headers.getall("Set-Cookie")) == [name]
    assert len(list(jar)) == 1
