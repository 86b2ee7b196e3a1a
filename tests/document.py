"""Check responses against the OpenAPI document of the service that sent them."""

import functools
import re
from typing import Any

import orjson
from aiohttp import web
from jsonschema import Draft202012Validator

from service.http.app_keys import DOCUMENT

# Statuses possible on any path: unknown path or method, encoded body, unknown `Expect`.
REFUSED_ANYWHERE = {404, 405, 415, 417}


class Document:
    """One parsed OpenAPI document, which checks many responses."""

    def __init__(self, raw: bytes) -> None:
        self.data: dict[str, Any] = orjson.loads(raw)
        # A path without parameters takes precedence over a template that also matches.
        paths = sorted(self.data["paths"], key=lambda path: path.count("{"))
        self.patterns = {path: pattern_of(path) for path in paths}
        self._validators: dict[tuple[str, str, int], Draft202012Validator] = {}

    def path_of(self, method: str, path: str) -> str | None:
        """Return the path template that a request to ``path`` matches, or ``None``."""
        for template, pattern in self.patterns.items():
            if method.lower() in self.data["paths"][template] and pattern.fullmatch(path):
                return template
        return None

    def response(self, template: str, method: str, status: int) -> dict[str, Any]:
        """Return the response object for one status, with its reference resolved."""
        responses = self.data["paths"][template][method.lower()]["responses"]
        assert str(status) in responses, f"{method} {template} does not document {status}"
        documented: dict[str, Any] = responses[str(status)]
        if "$ref" in documented:
            documented = self.data["components"]["responses"][documented["$ref"].rpartition("/")[2]]
        return documented

    def validator(self, template: str, method: str, status: int) -> Draft202012Validator:
        """Return the validator for the JSON body of one response."""
        key = (template, method, status)
        if key not in self._validators:
            content = self.response(*key)["content"]
            self._validators[key] = self.validator_of(content["application/json"]["schema"])
        return self._validators[key]

    def validator_of(self, schema: Any) -> Draft202012Validator:
        """Return a validator for ``schema``, which is a part of this document."""
        return Draft202012Validator({**schema, "components": self.data["components"]})

    def check(self, template: str, method: str, answer: Any) -> None:
        """Assert that ``answer`` is documented: its status, headers, content type and body."""
        documented = self.response(template, method, answer.status)
        for name, header in documented.get("headers", {}).items():
            spec = self.data["components"]["headers"][header["$ref"].rpartition("/")[2]]
            assert name in answer.headers or not spec.get("required"), f"without {name}"
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        content = documented.get("content", {})
        if not content:
            assert answer.body is None, answer
            return
        assert kind in content, f"{method} {template} does not document {kind}"
        if kind == "application/json":
            self.validator(template, method, answer.status).validate(answer.body)


@functools.lru_cache
def read_document(raw: bytes) -> Document:
    """Parse ``raw``. The cache returns the same object for all services of one dialect."""
    return Document(raw)


@functools.lru_cache
def pattern_of(template: str) -> re.Pattern[str]:
    """Return a pattern that matches the same paths as the template does in aiohttp."""
    return re.compile("[^{}/]+".join(map(re.escape, re.split(r"{\w+}", template))))


def assert_documented(app: web.Application, method: str, path: str, answer: Any) -> None:
    """Assert that the document describes ``answer``. ``path`` is the percent-encoded path."""
    document = read_document(app[DOCUMENT])
    if method == "HEAD" or is_of_a_test(app, document, path):
        return
    if method == "OPTIONS" and "Access-Control-Allow-Methods" in answer.headers:
        return  # The CORS middleware responds first, on every path.
    if (template := document.path_of(method, path)) is not None and answer.status != 417:
        document.check(template, method, answer)
        return
    assert answer.status in REFUSED_ANYWHERE, f"{method} {path} is not documented: {answer}"
    document.validator_of({"$ref": "#/components/schemas/Error"}).validate(answer.body)


def is_of_a_test(app: web.Application, document: Document, path: str) -> bool:
    """Return whether ``path`` matches a route that a test has added to the service."""
    added = {resource.canonical for resource in app.router.resources()} - {*document.patterns}
    return any(pattern_of(template).fullmatch(path) for template in added)
