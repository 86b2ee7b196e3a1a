"""The JSON Schemas that describe responses."""

import jsonschema
import pytest

from service.http.openapi.schemas import (
    TIME,
    ByDialect,
    array_of,
    boolean,
    integer,
    json_schema,
    nullable,
    object_of,
    one_of,
    string,
)

THING = object_of(
    name=nullable(string(example="a")),
    kind=one_of("big", "small"),
    count=integer(example=1, lowest=0, highest=9),
    done=boolean(example=False),
    tags=array_of(string(example="t")),
)
GOOD = {"name": "a", "kind": "small", "count": 9, "done": True, "tags": ["x"]}


@pytest.mark.parametrize("data", [GOOD, {**GOOD, "name": None, "count": 0, "tags": []}])
def test_schema_accepts_what_it_describes(data: object) -> None:
    jsonschema.validate(data, THING)


@pytest.mark.parametrize(
    "data",
    [
        {**GOOD, "more": 1},
        {name: value for name, value in GOOD.items() if name != "done"},
        {**GOOD, "kind": "medium"},
        {**GOOD, "count": 10},
        {**GOOD, "count": -1},
        {**GOOD, "count": "1"},
        {**GOOD, "done": None},
        {**GOOD, "name": 1},
        {**GOOD, "tags": [1]},
    ],
)
def test_schema_rejects_everything_else(data: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, THING)


def test_integer_has_only_the_given_bounds() -> None:
    assert integer(example=1) == {"type": "integer", "examples": [1]}
    assert integer(example=1, lowest=0) == {"type": "integer", "minimum": 0, "examples": [1]}


def test_string_has_a_format_when_it_is_given() -> None:
    assert "format" not in string(example="a")
    assert TIME["format"] == "date-time"


def test_nullable_leaves_its_argument_unchanged() -> None:
    schema = string(example="a")
    assert nullable(schema)["type"] == ["string", "null"]
    assert schema["type"] == "string"


def test_by_dialect_returns_the_value_of_the_dialect() -> None:
    assert [ByDialect(400, 422).of(strict) for strict in (False, True)] == [400, 422]


def test_json_schema_marks_a_validator_and_returns_it() -> None:
    def validate(value: str) -> str:
        return value

    assert json_schema(TIME)(validate) is validate
    assert validate.json_schema is TIME  # type: ignore[attr-defined]
