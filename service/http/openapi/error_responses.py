"""Describe error responses in the OpenAPI document, with the bodies of real errors as examples."""

from collections.abc import Iterator, Sequence
from typing import Any

import voluptuous as vol

from service.http.error_codes import ErrorCode
from service.http.errors import (
    ApiError,
    InvalidInput,
    RoleRequired,
    ScopeRequired,
    error_body,
    status_of,
)
from service.http.openapi.components import HEADERS
from service.http.openapi.schemas import ByDialect
from service.http.parameters import Number, QueryString
from service.http.routes import Operation
from service.http.validation import check

SHARED_ERROR = {
    "description": 'A shared error. The section "Errors" at the top lists them.',
    "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS},
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/Error"},
            "example": error_body(ErrorCode.INTERNAL_ERROR, {"server": ["internal error"]}),
        },
        # Only on routes that people use in a browser.
        "text/html": {"schema": {"type": "string"}},
    },
}
"""The response ``default``: any error that the operation itself does not list."""


def error_responses(operation: Operation, *, strict: bool) -> dict[str, Any]:
    """Return the response objects of the errors of ``operation``, by status in ascending order.

    ``strict`` selects the RealWorld 2.0.0 dialect.
    """
    errors: dict[int, list[ApiError]] = {}
    role = () if operation.role is None else (RoleRequired(operation.role),)
    scope = () if operation.scope is None else (ScopeRequired(operation.scope),)
    for error in (*_invalid_inputs(operation, strict=strict), *role, *scope, *operation.errors):
        errors.setdefault(status_of(error, strict=strict), []).append(error)
    return {
        str(status): _response(errors[status], pages=operation.pages) for status in sorted(errors)
    }


def _response(errors: Sequence[ApiError], *, pages: bool) -> dict[str, Any]:
    """Return the response object of one status, with an example of each of ``errors``.

    With ``pages`` the error may be a page.
    """
    headers = sorted({name for error in errors for name in error.headers})
    meanings = dict.fromkeys(error.code.meaning for error in errors)
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Error"}}
    if len(errors) == 1:
        content["example"] = errors[0].body
    else:
        content["examples"] = {_summary(error): {"value": error.body} for error in errors}
    response: dict[str, Any] = {
        "description": " ".join(meanings),
        "content": {"application/json": content},
    }
    if pages:
        response["content"]["text/html"] = {"schema": {"type": "string"}}
    if headers:
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return response


def _summary(error: ApiError) -> str:
    """Return the name of an example. It has the code, since two codes can have one message."""
    subject, messages = next(iter(error.errors.items()))
    return f"{error.code}: {subject} {messages[0]}"


def _invalid_inputs(operation: Operation, *, strict: bool) -> Iterator[InvalidInput]:
    """Yield the errors for an empty body and for a query parameter that is out of bounds.

    The validators of the route raise them, so the examples have its fields and its messages.
    """
    if operation.body is not None:
        schema = operation.body
        yield from _raised_by(schema.of(strict) if isinstance(schema, ByDialect) else schema)
    if operation.query is not None:
        yield from _raised_by_number(operation.query)


def _raised_by(schema: vol.Schema) -> Iterator[InvalidInput]:
    """Yield the error for a body without fields, in its wrapper if ``schema`` has one."""
    wrappers = [str(name) for name, fields in schema.schema.items() if isinstance(fields, vol.All)]
    try:
        check({wrapper: {} for wrapper in wrappers}, schema)
    except InvalidInput as error:
        yield error


def _raised_by_number(query: QueryString) -> Iterator[InvalidInput]:
    """Yield the error for the first number of ``query``, one below its minimum."""
    for name, validator in query.validators.items():
        if isinstance(validator, Number):
            try:
                validator(str(validator.lowest - 1))
            except vol.Invalid as invalid:
                yield InvalidInput({name: [invalid.msg]})
                return
