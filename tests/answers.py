"""Assertions about error responses."""

from typing import Any

from tests.conftest import Answer


def assert_error(answer: Answer, status: int, code: str, errors: dict[str, list[str]]) -> None:
    """Assert that ``answer`` is exactly this error, in the common error shape."""
    assert (answer.status, answer.body) == (status, {"errors": errors, "code": code})
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["X-Request-ID"]


def assert_invalid(answer: Answer, status: int, **errors: Any) -> None:
    """Assert that ``answer`` rejects exactly these fields, each with one message."""
    assert_error(answer, status, "invalid_input", {name: [text] for name, text in errors.items()})
