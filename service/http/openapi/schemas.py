"""What an answer looks like, for the document: small builders of JSON Schema.

Every leaf has an example, so that the example of a whole answer can be put together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

_Validator = TypeVar("_Validator", bound=Callable[..., Any])

Schema = Any
"""A JSON Schema, in which ``ByDialect`` and ``Named`` may stand at any place."""


@dataclass(frozen=True)
class ByDialect:
    """A status, a schema or the validator of a body that depends on ``REALWORLD_STRICT``."""

    default: Any
    strict: Any

    def of(self, strict: bool) -> Any:
        """Return the value of the dialect."""
        return self.strict if strict else self.default


@dataclass(frozen=True)
class Named:
    """A schema that stands once in the document, under its name, and is referred to."""

    name: str
    schema: Schema


@dataclass(frozen=True)
class Media:
    """The body of an answer that is not JSON."""

    types: tuple[str, ...]
    schema: Schema


def string(*, example: str, form: str | None = None) -> Schema:
    """A text; ``form`` is JSON Schema's ``format``."""
    schema = {"type": "string", "examples": [example]}
    return {**schema, "format": form} if form else schema


TIME = string(example="2016-02-18T03:22:56.637Z", form="date-time")


def one_of(*values: str) -> Schema:
    """One of these texts; the first is the example."""
    return {"type": "string", "enum": list(values), "examples": [values[0]]}


def integer(*, example: int, lowest: int | None = None, highest: int | None = None) -> Schema:
    """A whole number within the bounds that are given."""
    bounds = {"minimum": lowest, "maximum": highest}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return {"type": "integer", **given, "examples": [example]}


def boolean(*, example: bool) -> Schema:
    """True or false."""
    return {"type": "boolean", "examples": [example]}


def array_of(items: Schema) -> Schema:
    """A list; its example has one item."""
    return {"type": "array", "items": items}


def object_of(**properties: Schema) -> Schema:
    """An object with all of these keys and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def nullable(schema: Mapping[str, Any]) -> Schema:
    """The same, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def json_schema(schema: Schema) -> Callable[[_Validator], _Validator]:
    """Say what a validator function accepts, which the document cannot see in its code."""

    def mark(validator: Any) -> Any:
        validator.json_schema = schema
        return validator

    return mark
