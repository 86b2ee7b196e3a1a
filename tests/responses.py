"""Assertions about error responses."""

from typing import Any

from tests.conftest import Response


def assert_error(response: Response, status: int, code: str, errors: dict[str, list[str]]) -> None:
    """Assert that ``response`` is exactly this error, in the common error shape."""
    assert (response.status, response.body) == (status, {"errors": errors, "code": code})
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.headers["X-Request-ID"]


def assert_invalid(response: Response, status: int, **errors: Any) -> None:
    """Assert that ``response`` rejects exactly these fields, each with one message."""
    assert_error(response, status, "invalid_input", {name: [text] for name, text in errors.items()})
