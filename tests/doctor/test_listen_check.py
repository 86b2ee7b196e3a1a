"""Test that lost notifications are found, with a real PgBouncer."""

from typing import Any

import pytest

from service.doctor import listen_check
from service.doctor.findings import Finding, Status
from service.doctor.listen_check import check_listen
from tests.doctor.checks import messages, problems, run_check
from tests.pgbouncer import PgBouncer, needs_pgbouncer, supports_prepared_statements


async def listen(url: str, listen_url: str | None = None, **settings: Any) -> list[Finding]:
    """Return the findings for these URLs."""
    given = {"database_url": url, "database_listen_url": listen_url, **settings}
    return await run_check(check_listen, url, **given)


async def test_notification_arrives_without_a_pooler(database_url: str) -> None:
    (finding,) = await listen(database_url)
    assert finding.message == "a notification of DATABASE_URL arrives at DATABASE_URL"
    assert finding.status is Status.OK


@needs_pgbouncer
async def test_pooler_in_transaction_mode_needs_another_url_to_listen(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen_check, "NOTIFY_TIMEOUT", 0.5)
    with PgBouncer(database_url) as pgbouncer:
        pooled = pgbouncer.url(database_url)
        findings = await listen(pooled)
        assert "no notification arrives" in problems(findings)[0]
        assert "set DATABASE_LISTEN_URL" in (findings[0].action or "")
        findings = await listen(pooled, database_url)
        assert "arrives at DATABASE_LISTEN_URL" in messages(findings)
        findings = await listen(database_url, pooled)
        assert "arrives at DATABASE_LISTEN_URL: the service" in problems(findings)[0]


@needs_pgbouncer
async def test_pooler_that_cannot_prepare_statements_needs_the_setting(database_url: str) -> None:
    options: dict[str, Any] = (
        {"max_prepared_statements": "0"} if supports_prepared_statements() else {}
    )
    with PgBouncer(database_url, **options) as pgbouncer:
        pooled = pgbouncer.url(database_url)
        findings = await listen(pooled, database_url)
        assert problems(findings) == [
            "the pooler of DATABASE_URL does not support prepared statements"
        ]
        findings = await listen(pooled, database_url, database_prepared_statements=False)
        assert problems(findings) == []
        assert "fits DATABASE_PREPARED_STATEMENTS" in messages(findings)


async def test_database_that_cannot_be_reached_is_a_problem_with_its_setting() -> None:
    unreachable = "postgresql://u:word@127.0.0.1:1/x"
    findings = await listen("postgresql://u:word@127.0.0.1:2/x", unreachable)
    assert "cannot be reached" in problems(findings)[0]
    assert "DATABASE_LISTEN_URL" in (findings[0].action or "")
    (finding,) = await run_check(check_listen, None)
    assert finding.status is Status.NOTE
