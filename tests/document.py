"""Check responses against the OpenAPI document of the service that sent them."""

import functools
import re
from typing import Any

import orjson
from aiohttp import web
from jsonschema import Draft202012Validator

from service.http.app_keys import DOCUMENT
from service.http.error_codes import ErrorCode

# Statuses possible on any path: unknown path or method, encoded body, unknown `Expect`.
REJECTED_ANYWHERE = {404, 405, 415, 417}

TOKEN_CODES = {
    ErrorCode.TOKEN_MISSING,
    ErrorCode.TOKEN_INVALID,
    ErrorCode.TOKEN_EXPIRED,
    ErrorCode.TOKEN_REVOKED,
    ErrorCode.SESSION_EVICTED,
}
KEY_CODES = {
    ErrorCode.KEY_MISSING,
    ErrorCode.KEY_INVALID,
    ErrorCode.TOO_MANY_ATTEMPTS,
}
BODY_CODES = {
    ErrorCode.REQUEST_TIMEOUT,
    ErrorCode.BODY_TOO_LARGE,
    ErrorCode.CONTENT_ENCODING_NOT_SUPPORTED,
}


def shared_codes(operation: Any) -> set[ErrorCode]:
    """Return the codes of the errors that follow from the operation, not from its handler."""
    codes = {ErrorCode.INTERNAL_ERROR, ErrorCode.DATABASE_UNAVAILABLE}
    if operation["security"] == [{"Token": []}]:
        codes |= TOKEN_CODES
        codes.add(ErrorCode.TWO_FACTOR_SETUP_REQUIRED)
    if any("Key" in requirement for requirement in operation["security"]):
        codes |= KEY_CODES
    if "requestBody" in operation:
        codes |= {ErrorCode.INVALID_INPUT, ErrorCode.PASSWORDS_BUSY, *BODY_CODES}
    if "parameters" in operation:
        codes.add(ErrorCode.INVALID_INPUT)
    return codes


def codes_of(response: Any) -> set[str]:
    """Return the codes in the examples of an error response."""
    content = response.get("content", {}).get("application/json", {})
    examples = [example["value"] for example in content.get("examples", {}).values()]
    examples += [content["example"]] if "example" in content else []
    return {example["code"] for example in examples if "code" in example}


class Document:
    """One parsed OpenAPI document, which checks many responses."""

    def __init__(self, raw: bytes) -> None:
        self.data: dict[str, Any] = orjson.loads(raw)
        # A path without parameters takes precedence over a template that also matches.
        paths = sorted(self.data["paths"], key=lambda path: path.count("{"))
        self.patterns: dict[str, re.Pattern[str]] = {path: pattern_of(path) for path in paths}
        self._validators: dict[tuple[str, str, int], Draft202012Validator] = {}

    def path_of(self, method: str, path: str) -> str | None:
        """Return the path template that a request to ``path`` matches, or ``None``."""
        for template, pattern in self.patterns.items():
            if method.lower() in self.data["paths"][template] and pattern.fullmatch(path):
                return template
        return None

    def response_object(self, template: str, method: str, status: int) -> dict[str, Any]:
        """Return the response object for one status, which is ``default`` for a shared error."""
        operation = self.data["paths"][template][method.lower()]
        responses = operation["responses"]
        if str(status) in responses:
            documented: dict[str, Any] = responses[str(status)]
            return documented
        shared = {self.status_of(code) for code in shared_codes(operation)}
        assert status in shared, f"{method} {template} does not document {status}"
        return self.shared_error

    def status_of(self, code: ErrorCode) -> int:
        """Return the status of ``code`` in the dialect of this document."""
        is_strict = "422" in self.data["paths"]["/api/users"]["post"]["responses"]
        return 422 if is_strict and code is ErrorCode.INVALID_INPUT else code.status

    @property
    def shared_error(self) -> dict[str, Any]:
        """Return the response ``default`` of every operation."""
        shared: dict[str, Any] = self.data["components"]["responses"]["SharedError"]
        return shared

    def validator(self, template: str, method: str, status: int) -> Draft202012Validator:
        """Return the validator for the JSON body of one response."""
        key = (template, method, status)
        if key not in self._validators:
            content = self.response_object(*key)["content"]
            self._validators[key] = self.validator_of(content["application/json"]["schema"])
        return self._validators[key]

    def validator_of(self, schema: Any) -> Draft202012Validator:
        """Return a validator for ``schema``, which is a part of this document."""
        return Draft202012Validator({**schema, "components": self.data["components"]})

    def check(self, template: str, method: str, response: Any) -> None:
        """Assert that ``response`` is documented: its status, headers, content type and body."""
        documented = self.response_object(template, method, response.status)
        assert response.headers["X-Request-ID"]
        if documented is not self.shared_error:  # Its headers depend on the code.
            names = {*documented.get("headers", {})}
            # Of the errors with the status 403, only that of a scope has a challenge.
            if response.status == 403 and response.body["code"] != ErrorCode.SCOPE_REQUIRED:
                names -= {"WWW-Authenticate"}
            missing = [name for name in names if name not in response.headers]
            assert not missing, f"{method} {template} lacks {missing}: {response}"
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        content = documented.get("content", {})
        if not content:
            assert response.body is None, response
            return
        assert kind in content, f"{method} {template} does not document {kind}"
        if kind == "application/json":
            self.validator(template, method, response.status).validate(response.body)
        is_json = kind == "application/json"
        if response.status >= 400 and is_json and "code" in response.body:
            operation = self.data["paths"][template][method.lower()]
            codes = codes_of(documented) | shared_codes(operation)
            assert response.body["code"] in codes, (
                f"{method} {template} does not document {response}"
            )


@functools.lru_cache
def read_document(raw: bytes) -> Document:
    """Parse ``raw``. The cache returns the same object for all services of one dialect."""
    return Document(raw)


@functools.lru_cache
def pattern_of(template: str) -> re.Pattern[str]:
    """Return a pattern that matches the same paths as the template does in aiohttp."""
    return re.compile("[^{}/]+".join(map(re.escape, re.split(r"{\w+}", template))))


def assert_documented(app: web.Application, method: str, path: str, response: Any) -> None:
    """Assert that the document describes ``response``. ``path`` is the percent-encoded path."""
    document = read_document(app[DOCUMENT])
    if not is_added_by_a_test(app, document, path):
        check_response(document, method, path, response)


def check_response(document: Document, method: str, path: str, response: Any) -> None:
    """Assert that ``document`` describes ``response``. ``path`` is the percent-encoded path."""
    if method == "HEAD":
        return
    if method == "OPTIONS" and "Access-Control-Allow-Methods" in response.headers:
        return  # The CORS middleware responds first, on every path.
    if response.status == 405 and path in document.data["paths"]:
        template = None  # A concrete path comes before a template that it matches, too.
    else:
        template = document.path_of(method, path)
    if template is not None and response.status != 417:
        document.check(template, method, response)
        return
    assert response.status in REJECTED_ANYWHERE, f"{method} {path} is not documented: {response}"
    document.validator_of({"$ref": "#/components/schemas/Error"}).validate(response.body)


def is_added_by_a_test(app: web.Application, document: Document, path: str) -> bool:
    """Return whether ``path`` matches a route that a test has added to the service."""
    added = {resource.canonical for resource in app.router.resources()} - {*document.patterns}
    return any(pattern_of(template).fullmatch(path) for template in added)
