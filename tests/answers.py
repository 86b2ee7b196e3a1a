"""What tests say about answers."""

from typing import Any

from tests.conftest import Answer


def assert_error(answer: Answer, status: int, code: str, errors: dict[str, list[str]]) -> None:
    """Hold that ``answer`` is this error, whole, in the one shape that errors have."""
    assert (answer.status, answer.body) == (status, {"errors": errors, "code": code})
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["X-Request-ID"]


def assert_invalid(answer: Answer, status: int, **errors: Any) -> None:
    """Hold that ``answer`` refuses its input for exactly these fields, one message each."""
    assert_error(answer, status, "invalid_input", {name: [text] for name, text in errors.items()})
