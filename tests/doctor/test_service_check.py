"""Test the check of the running service, behind real proxies."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import ClientSession, web

from service.doctor.findings import Finding, Status
from service.doctor.service_check import FORGED, check_service, proxy_finding
from service.operations.seen_client import make_proof
from service.settings.settings import Settings
from tests.conftest import SECRET, MakeClient
from tests.doctor.checks import messages, problems, run_check
from tests.doctor.test_http import serve
from tests.processes import free_port

Forward = Callable[[list[str], str], str]


def append(entries: list[str], peer: str) -> str:
    """Return the header as nginx's ``$proxy_add_x_forwarded_for`` does."""
    return ", ".join([*entries, peer])


def replace(_: list[str], peer: str) -> str:
    """Return a header with the peer alone, as ``$remote_addr`` does."""
    return peer


class Proxy:
    """A proxy in front of ``target``."""

    def __init__(self, target: str, header: Forward) -> None:
        self._target = target
        self._header = header

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        entries = request.headers.getall("X-Forwarded-For", [])
        headers = {
            "Authorization": request.headers.get("Authorization", ""),
            "X-Forwarded-For": self._header(list(entries), request.remote or ""),
        }
        async with (
            ClientSession() as session,
            session.get(f"{self._target}{request.path}", headers=headers) as response,
        ):
            body, status = await response.read(), response.status
        return web.Response(body=body, status=status, content_type="application/json")


async def examine(url: str, base_url: str | None, **settings: Any) -> list[Finding]:
    """Check the service at ``url``, which clients reach at ``base_url``."""
    host, _, port = url.removeprefix("http://").partition(":")
    return await run_check(check_service, host=host, port=int(port), base_url=base_url, **settings)


async def service(make_client: MakeClient, trusted_proxies: int) -> str:
    """Start the service, and return its URL."""
    client = await make_client(trusted_proxies=trusted_proxies)
    return str(client.http.make_url("")).removesuffix("/")


@pytest.mark.parametrize(
    ("headers", "trusted", "words"),
    [
        ([], 0, None),
        ([append], 1, None),
        ([replace], 1, None),
        ([append, append], 2, None),
        ([replace, append], 2, None),
        ([], 1, "set TRUSTED_PROXIES=0"),
        ([append], 0, "set TRUSTED_PROXIES=1"),
        ([append], 2, "set TRUSTED_PROXIES=1"),
        ([append, append], 1, "set TRUSTED_PROXIES=2"),
    ],
)
async def test_proxies_are_counted_and_compared(
    make_client: MakeClient, headers: list[Forward], trusted: int, words: str | None
) -> None:
    """``headers`` begins with the proxy next to the client."""
    url = target = await service(make_client, trusted)
    async with AsyncExitStack() as proxies:
        for header in reversed(headers):
            target = await proxies.enter_async_context(serve(Proxy(target, header).handle))
        findings = await examine(url, target, trusted_proxies=trusted)
    assert findings[0].status is Status.OK
    assert bool(problems(findings)) is (words is not None)
    assert words is None or words in (findings[-1].action or "")


async def test_trust_in_too_many_proxies_lets_a_client_choose_its_ip_address(
    make_client: MakeClient,
) -> None:
    """This is why the finding is a problem: the service believes the forged entry."""
    url = await service(make_client, 1)
    findings = await examine(url, url, trusted_proxies=1)
    assert "clients can choose the IP address" in problems(findings)[0]
    async with ClientSession() as session:
        headers = {"X-Forwarded-For": FORGED, "Authorization": f"Bearer {make_proof(SECRET)}"}
        async with session.get(f"{url}/health/client", headers=headers) as response:
            assert (await response.json())["ip"] == FORGED


async def test_service_that_does_not_run_is_a_note_and_a_dead_base_url_a_problem() -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    (finding,) = await examine(dead, None)
    assert finding.status is Status.NOTE
    assert "no service responds" in finding.message
    assert "does not respond (the connection is refused)" in problems(await examine(dead, dead))[0]


async def test_proxies_are_unknown_without_base_url(make_client: MakeClient) -> None:
    findings = await examine(await service(make_client, 0), None)
    assert [finding.status for finding in findings] == [Status.OK, Status.NOTE]


async def test_service_with_another_secret_is_a_problem(make_client: MakeClient) -> None:
    url = await service(make_client, 0)
    findings = await examine(url, url, jwt_secret="another secret of 32 bytes or more")
    assert "has another JWT_SECRET" in problems(findings)[0]


async def test_other_programs_and_failing_proxies_are_problems() -> None:
    async def page(_: web.BaseRequest) -> web.Response:
        return web.Response(text="<p>Welcome to nginx")

    async def bad_gateway(_: web.BaseRequest) -> web.Response:
        return web.Response(status=502)

    async with serve(page) as url:
        first, second = problems(await examine(url, url))
        assert first.startswith("another program responds")
        assert "leads to another program" in second
    async with serve(bad_gateway) as url:
        assert "responds with status 502" in problems(await examine(url, url))[1]


async def test_health_of_a_service_without_its_database_is_a_problem(
    make_client: MakeClient,
) -> None:
    client = await make_client("postgresql://127.0.0.1:1/x")
    url = str(client.http.make_url("")).removesuffix("/")
    findings = await examine(url, None)
    assert problems(findings) == ["the service does not reach its database"]


def test_https_without_an_entry_means_a_proxy_that_adds_none() -> None:
    settings = Settings(base_url="https://accounts.example.org")
    assert "adds nothing" in proxy_finding(settings, [FORGED], "10.0.0.1").message
    assert "adds nothing" in proxy_finding(settings, [], "10.0.0.1").message


def test_another_port_without_an_entry_is_a_note() -> None:
    """Something is in between: a proxy that adds nothing, or a mapping of ports."""
    finding = proxy_finding(Settings(base_url="http://10.0.0.1:8080"), [FORGED], "10.0.0.9")
    assert finding.status is Status.NOTE
    assert "adds nothing" in finding.message


async def test_proxies_are_unknown_before_the_first_start(make_client: MakeClient) -> None:
    url = await service(make_client, 0)
    findings = await examine(url, url, jwt_secret=None)
    assert "before the first start" in messages(findings)
