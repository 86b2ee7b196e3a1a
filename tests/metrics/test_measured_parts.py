"""The parts of the application that count, in a service on a real database."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from service.accounts.sessions.authentication import SESSION_CACHE
from service.accounts.sessions.authentication_methods import (
    FEDERATED,
    PASSKEY,
    PASSWORD,
    PASSWORD_AND_CODE,
    Method,
)
from service.app import create_app
from service.mail.message import (
    MailServerUnavailable,
    Message,
    PermanentMailError,
    TemporaryMailError,
)
from service.metrics.measured_parts import (
    MeasuredMailer,
    MeasuredRequestLog,
    measured_parts,
    method_name,
)
from service.metrics.metrics import routes
from service.metrics.shared_values import SharedValues
from service.metrics.text_format import render
from service.settings.rate_limit import Limit
from service.settings.settings import Settings
from tests.conftest import SETTINGS, Client
from tests.metrics.scrapes import Scrape, worker_values
from tests.network import Network

AGE_PAST_GRACE = "update sessions set rotated_at = rotated_at - interval '30.5 seconds'"


class Measured:
    """A client of a service that counts, and what it has counted."""

    def __init__(self, client: Client, shared: SharedValues) -> None:
        self.client = client
        self._shared = shared

    def scrape(self) -> Scrape:
        return Scrape(render(self._shared, (), 0.0))


Measure = Callable[..., Awaitable[Measured]]


@pytest.fixture
def measure(
    db: asyncpg.Connection,
    database_url: str,
    aiohttp_client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Measure:
    """Return a function that starts a service that counts, with changed settings."""

    async def start(url: str = database_url, **changes: Any) -> Measured:
        settings = Settings(**{**SETTINGS, "data_dir": tmp_path, **changes})
        shared = SharedValues(1, routes())
        values = worker_values(shared, 0)
        log = io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", log)
            app = create_app(settings, url, MeasuredRequestLog(values), measured_parts(values))
        return Measured(Client(await aiohttp_client(app), settings, log), shared)

    return start


async def test_requests_are_counted_and_logged(measure: Measure) -> None:
    measured = await measure()
    token = await measured.client.register("alice")
    for _ in range(3):
        await measured.client.get("/api/user", token=token)
    await measured.client.get("/api/user")
    await measured.client.get("/api/profiles/alice")
    await measured.client.get("/nowhere")
    await asyncio.sleep(0)
    found = measured.scrape()
    name = "http_request_duration_seconds_count"
    assert found.get(name, method="GET", route="/api/user", status="200") == 3
    assert found.get(name, method="GET", route="/api/user", status="401") == 1
    assert found.get(name, method="GET", route="/api/profiles/{username}", status="200") == 1
    assert found.get(name, method="other", route="unmatched", status="404") == 1
    assert found.get(name, method="POST", route="/api/users", status="200") == 1
    assert found.total(name) == len(measured.client.log.getvalue().splitlines()) == 7


async def test_logins_are_counted_by_method_and_errors_by_code(measure: Measure) -> None:
    measured = await measure(login_limits=(Limit(2, 900), Limit(0, 900), Limit(0, 900)))
    await measured.client.register("alice")
    await measured.client.sign_in("alice")
    await measured.client.sign_in("alice")
    wrong = {"user": {"email": "alice@example.test", "password": "wrong"}}
    statuses = [(await measured.client.post("/api/users/login", wrong)).status for _ in range(4)]
    assert statuses == [401, 401, 429, 429]
    found = measured.scrape()
    assert found.get("registrations_total", method="password") == 1
    assert found.get("sign_ins_total", method="password") == 2
    assert found.total("sign_ins_total") == 2
    assert found.get("error_responses_total", code="invalid_credentials") == 2
    assert found.get("error_responses_total", code="too_many_attempts") == 2
    assert found.total("error_responses_total") == 4
    assert found.get("password_hash_wait_seconds_count", queue="login") == 4
    assert found.get("password_hash_wait_seconds_count", queue="other") == 1


async def test_reuse_of_a_refresh_token_is_counted_once(
    measure: Measure, db: asyncpg.Connection
) -> None:
    measured = await measure()
    device = await measured.client.open_account("alice")
    assert (await measured.client.refresh(device.refresh)).status == 200
    assert measured.scrape().get("error_responses_total", code="refresh_token_reused") == 0
    await db.execute(AGE_PAST_GRACE)
    for _ in range(3):
        assert (await measured.client.refresh(device.refresh)).status == 401
    found = measured.scrape()
    assert found.get("error_responses_total", code="refresh_token_reused") == 1
    assert found.get("error_responses_total", code="refresh_token_revoked") == 2


async def test_queries_for_users_are_counted_beside_all_authenticated_requests(
    measure: Measure,
) -> None:
    measured = await measure(user_cache_size=1)
    client = measured.client
    alice, bob = await client.register("alice"), await client.register("bob")
    await _until_cached(measured, alice)
    before = measured.scrape()
    for _ in range(5):
        assert await client.is_authenticated(alice)
    assert await client.is_authenticated(bob)
    for token in (alice + "x", "no token"):
        assert not await client.is_authenticated(token)
    await asyncio.sleep(0)
    after = measured.scrape()

    def counted(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    assert counted("authenticated_requests_total") == 6
    assert counted("session_cache_misses_total", reason="absent") == 1
    assert counted("session_cache_misses_total") == 1
    assert counted("session_cache_evictions_total") == 1


async def test_invalidations_are_counted(measure: Measure) -> None:
    measured = await measure(user_cache_size=100)
    token = await measured.client.register("alice")
    await _until_cached(measured, token)
    before = measured.scrape().total("session_cache_invalidations_total")
    await measured.client.put("/api/user", {"user": {"bio": "new"}}, token=token)
    assert measured.scrape().total("session_cache_invalidations_total") > before


async def test_queries_while_the_cache_is_disabled_are_counted_as_such(
    measure: Measure, database_url: str
) -> None:
    measured = await measure(user_cache_size=0)
    token = await measured.client.register("alice")
    assert await measured.client.is_authenticated(token)
    found = measured.scrape()
    assert found.get("session_cache_misses_total", reason="disabled") == 1
    assert found.total("session_cache_misses_total") == 1


async def test_read_that_an_invalidation_overtakes_is_stale(measure: Measure) -> None:
    measured = await measure()
    http: Any = measured.client.http
    cache = http.app[SESSION_CACHE]
    user_id, session_id = uuid4(), uuid4()
    with cache.loading(user_id, session_id):
        cache.invalidate(f"user:{user_id}")
    with cache.loading(user_id, session_id):
        pass
    assert measured.scrape().total("session_cache_stale_reads_total") == 1


async def test_lost_database_is_counted_by_its_code(measure: Measure, database_url: str) -> None:
    async with Network(database_url) as network:
        measured = await measure(network.url)
    assert (await measured.client.get("/api/tags")).status == 503
    found = measured.scrape()
    assert found.get("error_responses_total", code="database_unavailable") == 1


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (None, "sent"),
        (TemporaryMailError(), "delayed"),
        (PermanentMailError(), "refused"),
        (MailServerUnavailable(), "unreachable"),
    ],
)
async def test_mails_are_counted_by_result(error: Exception | None, result: str) -> None:
    class Server:
        async def send(self, *_: Any, **__: Any) -> None:
            if error is not None:
                raise error

    shared = SharedValues(1, [])
    mailer = MeasuredMailer(Server(), worker_values(shared, 0))
    message = Message("subject", "text", "html")
    try:
        await mailer.send(
            message, "alice@example.test", mail_id=uuid4(), written_at=datetime.now(UTC)
        )
    except (TemporaryMailError, PermanentMailError) as raised:
        assert raised is error
    else:
        assert error is None
    found = Scrape(render(shared, (), 0.0))
    assert found.get("mails_total", result=result) == 1
    assert found.total("mails_total") == 1


@pytest.mark.parametrize(
    ("methods", "name"),
    [
        (PASSWORD, "password"),
        (PASSWORD_AND_CODE, "password_and_code"),
        (PASSKEY, "passkey"),
        (FEDERATED, "provider"),
        ((*FEDERATED, Method.ONE_TIME_CODE, Method.MULTIPLE), "provider_and_code"),
    ],
)
def test_methods_of_a_login_have_one_name(methods: tuple[Method, ...], name: str) -> None:
    assert method_name(methods) == name


async def _until_cached(measured: Measured, token: str) -> None:
    """Wait until a request with ``token`` needs no query."""

    async def needs_query() -> bool:
        before = measured.scrape().total("session_cache_misses_total")
        assert await measured.client.is_authenticated(token)
        return measured.scrape().total("session_cache_misses_total") > before

    async with asyncio.timeout(30):
        while await needs_query():
            pass
