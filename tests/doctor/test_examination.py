"""Test that each check has a time limit, and hides no other one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.doctor import examination
from service.doctor.examination import examine
from service.doctor.findings import Context, Finding, ok
from service.settings.settings import Settings
from tests.doctor.checks import problems

CONTEXT = Context(Settings(), None)


async def good(_: Context) -> AsyncIterator[Finding]:
    yield ok("works")


async def broken(_: Context) -> AsyncIterator[Finding]:
    yield ok("works so far")
    raise ValueError("postgresql://u:password@h/x")


async def silent(_: Context) -> AsyncIterator[Finding]:
    yield ok("works so far")
    await asyncio.Event().wait()


async def deaf(_: Context) -> AsyncIterator[Finding]:
    """Ignore the end of the time limit."""
    yield ok("works so far")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if CLOSING.is_set():
                raise


CLOSING = asyncio.Event()


async def test_failure_of_a_check_does_not_hide_the_others() -> None:
    checks = {"broken": broken, "good": good}
    results = {name: found async for name, found in examine(CONTEXT, checks)}
    assert list(results) == ["broken", "good"]
    assert results["good"] == [ok("works")]
    first, failure = results["broken"]
    assert first == ok("works so far")
    assert "ValueError" in failure.message
    assert "password" not in f"{failure}"


async def test_check_without_a_result_in_time_is_a_problem_and_keeps_its_findings() -> None:
    checks = {"silent": silent, "good": good}
    results = {name: found async for name, found in examine(CONTEXT, checks, time_limit=0.05)}
    assert results["good"] == [ok("works")]
    assert results["silent"][0] == ok("works so far")
    assert problems(results["silent"]) == ["the check had no result within 0.05 seconds"]


async def test_check_that_ignores_its_time_limit_is_abandoned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(examination, "GRACE", 0.05)
    checks = {"deaf": deaf, "good": good}
    results = {name: found async for name, found in examine(CONTEXT, checks, time_limit=0.05)}
    assert results["good"] == [ok("works")]
    assert problems(results["deaf"]) == ["the check had no result within 0.05 seconds"]
    CLOSING.set()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if "_run" in repr(task):
            task.cancel()
