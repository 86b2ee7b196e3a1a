"""Test the error responses in the OpenAPI document."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.http.app_keys import DOCUMENT
from service.http.error_codes import ErrorCode
from tests.conftest import Client, Dialect
from tests.document import Document, codes_of, read_document, shared_codes


@pytest.fixture
def document(dialect_client: Client) -> Document:
    """Return the document in the dialect of the test."""
    return read_document(dialect_client.http.app[DOCUMENT])


def error_responses(document: Document) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield the method, path, status and response object of each error, without ``default``."""
    for path, methods in document.data["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                # The error of the health check is for load balancers, and has its own shape.
                if status.startswith(("4", "5")) and path != "/health":
                    yield method.upper(), path, status, response


def examples(response: dict[str, Any]) -> list[Any]:
    content = response["content"]["application/json"]
    if "example" in content:
        return [content["example"]]
    return [example["value"] for example in content["examples"].values()]


def test_every_error_has_the_common_shape_and_a_matching_example(document: Document) -> None:
    validator = document.validator_of({"$ref": "#/components/schemas/Error"})
    count = 0
    for method, path, status, response in error_responses(document):
        schema = response["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Error"}, (method, path)
        for example in examples(response):
            validator.validate(example)
            (code,) = [code for code in ErrorCode if code == example["code"]]
            assert status == str(document.status_of(code)), (method, path)
            assert code.meaning in response["description"]
            count += 1
    assert count > 40


def test_every_error_names_its_headers(document: Document) -> None:
    required = {
        "401": ["WWW-Authenticate"],
        "429": ["Retry-After"],
        "503": ["Retry-After"],
    }
    for method, path, status, response in error_responses(document):
        headers = required.get(status, [])
        if "scope_required" in codes_of(response):
            headers = ["WWW-Authenticate"]
        assert [*response.get("headers", {})] == headers, (method, path)
    assert document.shared_error["headers"].keys() == document.data["components"]["headers"].keys()


def test_every_operation_refers_to_the_shared_error(document: Document) -> None:
    for methods in document.data["paths"].values():
        for operation in methods.values():
            default = operation["responses"]["default"]
            assert default == {"$ref": "#/components/responses/SharedError"}


def test_operation_lists_no_error_that_only_follows_from_its_kind(document: Document) -> None:
    """These errors would fill the page: 401 of the token, 408, 413, 415, 500 and 503."""
    shared = shared_codes({"security": [{"Token": []}], "requestBody": {}})
    shared -= {ErrorCode.INVALID_INPUT, ErrorCode.SESSION_EVICTED}
    for method, path, _, response in error_responses(document):
        assert not codes_of(response) & shared, (method, path)


@pytest.mark.parametrize(
    ("method", "path", "errors"),
    [
        (
            "post",
            "/api/users",
            {
                "email": ["can't be blank"],
                "password": ["can't be blank"],
                "username": ["can't be blank"],
            },
        ),
        ("put", "/api/user", {"user": ["must have at least one field to change"]}),
        ("post", "/api/auth/refresh", {"refresh_token": ["can't be blank"]}),
        ("post", "/api/articles/{slug}/comments", {"body": ["can't be blank"]}),
        ("get", "/api/articles", {"limit": ["must be at least 1"]}),
        ("post", "/api/profiles/{username}/follow", {"profile": ["can't be your own"]}),
    ],
)
def test_example_of_invalid_input_has_the_fields_of_its_route(
    document: Document, dialect: Dialect, method: str, path: str, errors: dict[str, list[str]]
) -> None:
    response = document.data["paths"][path][method]["responses"][str(dialect.invalid)]
    assert examples(response) == [{"errors": errors, "code": "invalid_input"}]
