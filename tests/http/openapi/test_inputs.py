"""The JSON Schema of each validator."""

from typing import Any

import pytest
import voluptuous as vol

from service.http.openapi.inputs import schema_of
from service.http.openapi.schemas import ByDialect, json_schema
from service.http.parameters import Number, filter_text
from service.http.validation import Text, TextOrNull, required, something_to_change, wrapped

NAME = Text(shortest=2, longest=4, example="jake", form="email")
NAME_SCHEMA = {
    "type": "string",
    "minLength": 2,
    "maxLength": 4,
    "format": "email",
    "pattern": r"\S",
    "examples": ["jake"],
}


@json_schema({"type": "array"})
def tags(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("validator", "schema"),
    [
        (NAME, NAME_SCHEMA),
        (
            Text(example="a"),
            {"type": "string", "minLength": 1, "pattern": r"\S", "examples": ["a"]},
        ),
        (
            TextOrNull(longest=3, example="b"),
            {"type": ["string", "null"], "minLength": 0, "maxLength": 3, "examples": ["b"]},
        ),
        (Number(1, 9), {"type": "integer", "minimum": 1, "maximum": 9}),
        (filter_text, {"type": "string"}),
        (tags, {"type": "array"}),
        (ByDialect(filter_text, tags), ByDialect({"type": "string"}, {"type": "array"})),
    ],
    ids=["text", "shortest text", "text or null", "number", "filter", "marked", "by dialect"],
)
def test_schema_of_describes_each_validator(validator: Any, schema: Any) -> None:
    assert schema_of(validator) == schema


def test_schema_of_describes_a_body_with_its_wrapper() -> None:
    body = wrapped("user", {required("name"): NAME, "tags": tags})
    assert schema_of(body) == {
        "type": "object",
        "properties": {
            "user": {
                "type": "object",
                "properties": {"name": NAME_SCHEMA, "tags": {"type": "array"}},
                "required": ["name"],
            }
        },
        "required": ["user"],
    }


def test_schema_of_an_update_requires_a_field() -> None:
    inner = schema_of(wrapped("user", {"name": NAME}, something_to_change))["properties"]["user"]
    assert inner["minProperties"] == 1
    assert "required" not in inner


def test_schema_of_raises_type_error_when_the_validator_is_unknown() -> None:
    with pytest.raises(TypeError, match="int"):
        schema_of(vol.Schema({"count": int}))
