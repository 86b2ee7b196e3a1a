"""Build JSON Schemas of responses for the OpenAPI document.

Every leaf has an example, so that the example of a complete response can be composed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

_Validator = TypeVar("_Validator", bound=Callable[..., Any])

Schema = Any
"""A JSON Schema that may contain ``ByDialect`` and ``Named`` at any level."""


@dataclass(frozen=True)
class ByDialect:
    """A status, schema or body validator that depends on the setting ``REALWORLD_STRICT``."""

    default: Any
    strict: Any

    def of(self, strict: bool) -> Any:
        """Return the value of the dialect."""
        return self.strict if strict else self.default


@dataclass(frozen=True)
class Named:
    """A schema that the OpenAPI document defines once, by name, and refers to elsewhere."""

    name: str
    schema: Schema


@dataclass(frozen=True)
class Media:
    """A response body that is not JSON, or that is JSON only for clients that prefer it."""

    types: tuple[str, ...]
    schema: Schema
    json: Schema = None
    """The schema of the same response as JSON, or ``None`` if there is none."""


def string(*, example: str, form: str | None = None) -> Schema:
    """Return the schema of a string. ``form`` is JSON Schema's ``format``."""
    schema = {"type": "string", "examples": [example]}
    return {**schema, "format": form} if form else schema


TIME = string(example="2016-02-18T03:22:56.637Z", form="date-time")


def one_of(*values: str) -> Schema:
    """Return the schema of a string from ``values``. The first value is the example."""
    return {"type": "string", "enum": list(values), "examples": [values[0]]}


def integer(*, example: int, lowest: int | None = None, highest: int | None = None) -> Schema:
    """Return the schema of an integer within the given bounds, both inclusive."""
    bounds = {"minimum": lowest, "maximum": highest}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return {"type": "integer", **given, "examples": [example]}


def boolean(*, example: bool) -> Schema:
    """Return the schema of a boolean."""
    return {"type": "boolean", "examples": [example]}


def array_of(items: Schema) -> Schema:
    """Return the schema of an array. Its example has one item."""
    return {"type": "array", "items": items}


def object_of(**properties: Schema) -> Schema:
    """Return the schema of an object with exactly these keys, all required."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def nullable(schema: Mapping[str, Any]) -> Schema:
    """Return ``schema`` extended to accept null."""
    return {**schema, "type": [schema["type"], "null"]}


def json_schema(schema: Schema) -> Callable[[_Validator], _Validator]:
    """Return a decorator that attaches ``schema`` to a validator function.

    The OpenAPI document cannot derive the schema from the function's code.
    """

    def mark(validator: Any) -> Any:
        validator.json_schema = schema
        return validator

    return mark
