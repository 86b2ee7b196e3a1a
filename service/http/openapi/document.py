"""Generate the OpenAPI 3.1 document from the routes and their validation schemas."""

import functools
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

import orjson
from aiohttp import hdrs, web

from service.http.app_keys import SETTINGS
from service.http.bodies import FORM
from service.http.openapi.components import ERROR, HEADERS, INFO, SECURITY_SCHEMES, TAGS
from service.http.openapi.error_responses import SHARED_ERROR, error_responses
from service.http.openapi.inputs import schema_of
from service.http.openapi.schemas import ByDialect, Media, Named, string
from service.http.routes import Auth, Operation

DocumentedRoute: TypeAlias = tuple[str, str, Any]
"""The method, the path and the handler of a route."""

SECURITY: Mapping[Auth, list[dict[str, list[str]]]] = {
    Auth.REQUIRED: [{"Token": []}],
    Auth.OPTIONAL: [{"Token": []}, {}],
    Auth.NONE: [],
}


def render_document(app: web.Application) -> bytes:
    """Return the OpenAPI document of all current routes of ``app``, in its configured dialect.

    A process renders it once, however many applications it creates.
    """
    return _render(app[SETTINGS].realworld_strict, tuple(documented_routes(app)))


@functools.cache
def _render(strict: bool, routes: tuple[DocumentedRoute, ...]) -> bytes:
    return orjson.dumps(Document(strict).of(routes))


class Document:
    """A generator of the OpenAPI document. ``strict`` selects the RealWorld 2.0.0 dialect."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.schemas: dict[str, Any] = {"Error": self.resolve(ERROR)}

    def of(self, routes: Iterable[DocumentedRoute]) -> dict[str, Any]:
        """Return the complete OpenAPI document of ``routes``."""
        paths: dict[str, dict[str, Any]] = {}
        for method, path, handler in routes:
            paths.setdefault(path, {})[method.lower()] = self.operation(path, handler)
        return {
            "openapi": "3.1.0",
            "info": INFO,
            "servers": [{"url": "/"}],
            "tags": TAGS,
            "paths": paths,
            "components": {
                "schemas": self.schemas,
                "responses": {"SharedError": SHARED_ERROR},
                "headers": HEADERS,
                "securitySchemes": SECURITY_SCHEMES,
            },
        }

    def operation(self, path: str, handler: Any) -> dict[str, Any]:
        """Return the operation object of one method of ``path``.

        The summary is the first sentence of the handler's docstring. The description is the rest.
        """
        operation: Operation = handler.operation
        docstring = (inspect.getdoc(handler) or handler.__name__).replace("``", "`")
        summary, *rest = re.split(r"\.(?:\s+|$)", docstring, maxsplit=1)
        tag = operation.tag or handler.__module__.rpartition(".")[2].capitalize()
        operation_object: dict[str, Any] = {
            "operationId": operation.operation_id,
            "tags": [tag],
            "summary": summary,
            "security": security(operation),
        }
        if any(rest):
            operation_object["description"] = rest[0]
        parameters = [*self.path_parameters(path, operation), *self.query_parameters(operation)]
        if parameters:
            operation_object["parameters"] = parameters
        if operation.body is not None:
            operation_object["requestBody"] = {
                "required": True,
                "content": self.json(schema_of(operation.body)),
            }
            if operation.pages:
                schema = self.resolve(schema_of(operation.body))
                operation_object["requestBody"]["content"][FORM] = {"schema": schema}
            elif operation.form:
                schema = self.resolve(schema_of(operation.body))
                operation_object["requestBody"]["content"] = {FORM: {"schema": schema}}
        operation_object["responses"] = {
            **{
                str(self.resolve(status)): self.own_response(self.resolve(status), body)
                for status, body in operation.responses.items()
            },
            **error_responses(operation, strict=self.strict),
            "default": {"$ref": "#/components/responses/SharedError"},
        }
        return operation_object

    def path_parameters(self, path: str, operation: Operation) -> Iterator[dict[str, Any]]:
        """Yield the parameter objects of the names in braces in ``path``."""
        for name in re.findall(r"{(\w+)", path):
            schema = self.resolve(operation.parameters.get(name, string(example=name)))
            parameter = {"name": name, "in": "path", "required": True, "schema": schema}
            # Swagger UI fills its form with this example, but not with the examples of a schema.
            yield {**parameter, "example": self.example(schema)}

    def query_parameters(self, operation: Operation) -> Iterator[dict[str, Any]]:
        """Yield the parameter objects of the query string, with their bounds and defaults."""
        if operation.query is None:
            return
        for name, validator in operation.query.validators.items():
            schema = schema_of(validator)
            if (default := operation.query.defaults[name]) is not None:
                schema = {**schema, "default": default}
            yield {"name": name, "in": "query", "required": False, "schema": schema}

    def own_response(self, status: int, body: Any) -> dict[str, Any]:
        """Return the response object of a success. ``body`` is a schema, ``Media`` or ``None``."""
        response: dict[str, Any] = {
            "description": DESCRIPTIONS.get(status, HTTPStatus(status).phrase),
        }
        if isinstance(body, Media):
            schema = self.resolve(body.schema)
            response["content"] = {kind: {"schema": schema} for kind in body.types}
            if body.json is not None:
                response["content"] |= self.json(body.json)
        elif body is not None:
            response["content"] = self.json(body)
        return response

    def json(self, schema: Any) -> dict[str, Any]:
        """Return the content object of a JSON body with its example."""
        content = {"schema": self.resolve(schema), "example": self.example(schema)}
        return {"application/json": content}

    def resolve(self, schema: Any) -> Any:
        """Return ``schema`` in this dialect, with references in place of ``Named`` schemas."""
        if isinstance(schema, ByDialect):
            return self.resolve(schema.of(self.strict))
        if isinstance(schema, Named):
            if schema.name not in self.schemas:
                self.schemas[schema.name] = self.resolve(schema.schema)
            return {"$ref": f"#/components/schemas/{schema.name}"}
        if isinstance(schema, Mapping):
            return {name: self.resolve(value) for name, value in schema.items()}
        if isinstance(schema, list):
            return [self.resolve(value) for value in schema]
        return schema

    def example(self, schema: Any) -> Any:
        """Return an example of ``schema``, composed of the examples of its leaves."""
        if isinstance(schema, ByDialect):
            return self.example(schema.of(self.strict))
        if isinstance(schema, Named):
            return self.example(schema.schema)
        if "examples" in schema:
            return schema["examples"][0]
        if "properties" in schema:
            return {name: self.example(part) for name, part in schema["properties"].items()}
        return [self.example(schema["items"])]


DESCRIPTIONS = {200: "Success.", 201: "Created.", 204: "Success. The response has no body."}


def security(operation: Operation) -> list[dict[str, list[str]]]:
    """Return the security requirements of ``operation``.

    The list beside a scheme has the role that the user must have (OpenAPI 3.1, section 4.8.30.1),
    or the scope that the key must have.
    """
    if operation.scope is not None:
        return [{"Key": [operation.scope]}]
    if operation.role is not None:
        return [{"Token": [operation.role]}]
    return SECURITY[operation.auth]


def documented_routes(app: web.Application) -> Iterator[DocumentedRoute]:
    """Yield every route, except the HEAD that aiohttp adds to GET."""
    for route in app.router.routes():
        if route.resource is not None and route.method != hdrs.METH_HEAD:
            yield route.method, route.resource.canonical, route.handler
