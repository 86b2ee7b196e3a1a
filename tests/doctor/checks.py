"""Run one check."""

from typing import Any

from service.doctor.findings import Check, Context, Finding, Status
from service.settings.settings import Settings
from tests.conftest import SETTINGS


async def run_check(
    check: Check, url: str | None = None, *, send_to: str | None = None, **settings: Any
) -> list[Finding]:
    """Return the findings of ``check`` with ``settings`` and the database at ``url``."""
    given = Settings(**{**SETTINGS, **settings})
    return [finding async for finding in check(Context(given, url, send_to))]


def problems(findings: list[Finding]) -> list[str]:
    """Return the messages of the problems. Each must say what to do."""
    found = [finding for finding in findings if finding.status is Status.PROBLEM]
    assert all(finding.action for finding in found)
    return [finding.message for finding in found]


def messages(findings: list[Finding]) -> str:
    """Return all messages, a line each."""
    return "\n".join(finding.message for finding in findings)
