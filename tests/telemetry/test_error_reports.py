"""Test the reports that a real client of Sentry sends to a collector."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.conftest import MakeClient
from tests.telemetry.conftest import Collector

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def broken(db: asyncpg.Connection) -> AsyncIterator[None]:
    """Make each registration fail with an error whose detail has the whole row."""
    await db.execute("alter table users add constraint broken check (false) not valid")
    yield
    await db.execute("alter table users drop constraint broken")


@pytest.mark.usefixtures("broken")
async def test_internal_error_is_reported_without_personal_data(
    make_client: MakeClient, collector: Collector
) -> None:
    client = await make_client(sentry_dsn=f"http://key@127.0.0.1:{collector.port}/42")
    user = {"username": "mallory", "email": "mallory@example.test", "password": PASSWORD}
    response = await client.post(
        "/api/users?next=secret-query",
        {"user": user},
        headers={"X-Request-ID": "report-me", "User-Agent": "secret-agent"},
    )
    assert response.status == 500
    await client.http.close()
    ((path, report),) = collector.received
    assert path == "/api/42/envelope/"
    for expected in (b"CheckViolationError", b"constraint", b"report-me", b"unhandled error"):
        assert expected in report
    for secret in (b"mallory", PASSWORD.encode(), b"$2b$", b"secret-", b"127.0.0.1", b"DETAIL"):
        assert secret not in report.replace(f"127.0.0.1:{collector.port}/".encode(), b"")


async def test_rejected_request_is_not_reported(
    make_client: MakeClient, collector: Collector
) -> None:
    client = await make_client(sentry_dsn=f"http://key@127.0.0.1:{collector.port}/42")
    assert (await client.get("/api/user")).status == 401
    assert (await client.post("/api/users", {"user": {}})).status == 400
    await client.http.close()
    assert collector.received == []


@pytest.mark.usefixtures("broken")
async def test_service_responds_and_stops_when_the_collector_is_away(
    make_client: MakeClient, collector: Collector
) -> None:
    client = await make_client(sentry_dsn=f"http://key@127.0.0.1:{collector.port}/42")
    await collector.server.close()
    user = {"username": "mallory", "email": "mallory@example.test", "password": PASSWORD}
    assert (await client.post("/api/users", {"user": user})).status == 500
    assert (await client.get("/api/tags")).status == 200
    await client.http.close()
