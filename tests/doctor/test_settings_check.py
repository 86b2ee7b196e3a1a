"""Test the check of the settings."""

from pathlib import Path
from typing import Any

import pytest

from service.doctor.findings import Status
from service.doctor.settings_check import check_settings, limit_lines, setting_findings
from service.settings.rate_limit import NO_LIMIT, Limit
from service.settings.settings import Settings
from tests.doctor.checks import problems, run_check

SERVER: dict[str, Any] = {
    "database_url": "postgresql:///x",
    "base_url": "https://accounts.example.org",
}


async def test_good_settings_have_no_problem() -> None:
    findings = await run_check(check_settings, **SERVER)
    assert {finding.status for finding in findings} <= {Status.OK, Status.NOTE}
    assert problems(findings) == []


def test_limits_in_effect_are_shown() -> None:
    settings = Settings(
        login_limits=(Limit(6, 900), NO_LIMIT, Limit(50, 3600)), registration_limit=Limit(7, 60)
    )
    text = "\n".join(limit_lines(settings))
    assert "6/900 s per account and IP address, no limit per IP address, 50/3600 s per acc" in text
    assert "registrations 7/60 s" in text
    assert "16 pooled connections" in text


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"base_url": "http://accounts.example.org"}, Status.PROBLEM, "clear text"),
        ({"base_url": "http://localhost:3000"}, None, ""),
        ({"base_url": None}, Status.NOTE, "BASE_URL is not set"),
        ({"cors_origins": ("*",)}, Status.NOTE, "CORS_ORIGINS is *"),
        ({"login_limits": (NO_LIMIT,) * 3}, Status.NOTE, "LOGIN_LIMITS"),
        ({"refresh_grace": 20}, Status.NOTE, "REFRESH_GRACE is 20"),
        ({"user_cache_size": 0}, Status.NOTE, "USER_CACHE_SIZE is 0"),
    ],
)
def test_rarely_right_values_are_found(
    changes: dict[str, Any], status: Status | None, words: str
) -> None:
    findings = setting_findings(Settings(**{**SERVER, **changes}))
    assert [finding.status for finding in findings] == ([status] if status else [])
    assert all(words in finding.message for finding in findings)


async def test_files_that_cannot_be_used_are_problems(tmp_path: Path) -> None:
    findings = await run_check(
        check_settings,
        password_blocklist=str(tmp_path / "none"),
        mail_templates=tmp_path / "nowhere",
    )
    assert len(problems(findings)) == 2
