"""Test the check of the open files."""

import resource

import pytest

from service.doctor.descriptor_check import check_descriptors
from tests.doctor.checks import messages, problems, run_check


@pytest.mark.parametrize(
    ("hard", "words", "is_problem"),
    [
        (65_536, "65536 open files", False),
        (1024, ": 944 connections in each process", True),
        (resource.RLIM_INFINITY, "no limit of open files", False),
    ],
)
async def test_connections_follow_from_the_hard_limit(
    monkeypatch: pytest.MonkeyPatch, hard: int, words: str, *, is_problem: bool
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, hard))
    findings = await run_check(check_descriptors, database_pool_size=16)
    assert words in messages(findings)
    assert bool(problems(findings)) is is_problem
