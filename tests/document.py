"""Answers are held against the OpenAPI document of the service that gave them."""

import functools
import re
from typing import Any

import orjson
from aiohttp import web
from jsonschema import Draft202012Validator

from service.http.openapi.document import DOCUMENT

# What is refused on any path: no such path or method, an encoded body, an unknown `Expect`.
REFUSED_ANYWHERE = {404, 405, 415, 417}


class Document:
    """One document, ready to be asked about many answers."""

    def __init__(self, raw: bytes) -> None:
        self.data: dict[str, Any] = orjson.loads(raw)
        # A path without parameters comes before one that has some and matches too.
        paths = sorted(self.data["paths"], key=lambda path: path.count("{"))
        self.patterns = {path: pattern_of(path) for path in paths}
        self._validators: dict[tuple[str, str, int], Draft202012Validator | None] = {}

    def path_of(self, method: str, path: str) -> str | None:
        """The template that a request to ``path`` is answered by."""
        for template, pattern in self.patterns.items():
            if method.lower() in self.data["paths"][template] and pattern.fullmatch(path):
                return template
        return None

    def response(self, template: str, method: str, status: int) -> dict[str, Any]:
        """What the document says of one answer, behind its reference."""
        responses = self.data["paths"][template][method.lower()]["responses"]
        assert str(status) in responses, f"{method} {template} does not document {status}"
        said: dict[str, Any] = responses[str(status)]
        if "$ref" in said:
            said = self.data["components"]["responses"][said["$ref"].rpartition("/")[2]]
        return said

    def validator(self, template: str, method: str, status: int) -> Draft202012Validator | None:
        """Checks the body of one answer; ``None`` for one that is not JSON."""
        key = (template, method, status)
        if key not in self._validators:
            content = self.response(*key).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            self._validators[key] = None if schema is None else self.validator_of(schema)
        return self._validators[key]

    def validator_of(self, schema: Any) -> Draft202012Validator:
        """Checks what ``schema``, a part of this document, is about."""
        return Draft202012Validator({**schema, "components": self.data["components"]})

    def check(self, template: str, method: str, answer: Any) -> None:
        """Hold that ``answer`` is one that the document tells of."""
        said = self.response(template, method, answer.status)
        for name, header in said.get("headers", {}).items():
            spec = self.data["components"]["headers"][header["$ref"].rpartition("/")[2]]
            assert name in answer.headers or not spec.get("required"), f"without {name}"
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        content = said.get("content", {})
        if not content:
            assert answer.body is None, answer
            return
        assert kind in content, f"{method} {template} does not document {kind}"
        if (validator := self.validator(template, method, answer.status)) is not None:
            validator.validate(answer.body)


@functools.lru_cache
def read_document(raw: bytes) -> Document:
    """The document that ``raw`` is; one for all services of a dialect."""
    return Document(raw)


@functools.lru_cache
def pattern_of(template: str) -> re.Pattern[str]:
    """What matches the paths of a template as aiohttp does."""
    return re.compile("[^{}/]+".join(map(re.escape, re.split(r"{\w+}", template))))


def assert_documented(app: web.Application, method: str, path: str, answer: Any) -> None:
    """Hold that the document tells of ``answer``; ``path`` is as it was sent, in percent."""
    document = read_document(app[DOCUMENT])
    if method == "HEAD" or is_of_a_test(app, document, path):
        return
    if method == "OPTIONS" and "Access-Control-Allow-Methods" in answer.headers:
        return  # CORS answers these before any route, on every path.
    if (template := document.path_of(method, path)) is not None and answer.status != 417:
        document.check(template, method, answer)
        return
    assert answer.status in REFUSED_ANYWHERE, f"{method} {path} is not documented: {answer}"
    document.validator_of({"$ref": "#/components/schemas/Error"}).validate(answer.body)


def is_of_a_test(app: web.Application, document: Document, path: str) -> bool:
    """Whether ``path`` belongs to a route that a test has added to the service."""
    added = {resource.canonical for resource in app.router.resources()} - {*document.patterns}
    return any(pattern_of(template).fullmatch(path) for template in added)
