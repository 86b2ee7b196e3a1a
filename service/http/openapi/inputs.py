"""Generate the JSON Schema of request inputs from the validators that check them."""

from typing import Any

import voluptuous as vol

from service.http.openapi.schemas import ByDialect, Schema, nullable
from service.http.parameters import Number, filter_text
from service.http.validation import Text, TextOrNull, something_to_change


def schema_of(validator: Any) -> Schema:
    """Return the JSON Schema of the values that ``validator`` accepts.

    A validator of another type must have the attribute ``json_schema``. Raise ``TypeError`` for an
    unknown validator.
    """
    if isinstance(validator, ByDialect):
        return ByDialect(schema_of(validator.default), schema_of(validator.strict))
    if hasattr(validator, "json_schema"):
        return validator.json_schema
    if isinstance(validator, vol.Schema):
        return _object(validator.schema)
    if isinstance(validator, vol.All):
        return _all(validator)
    if isinstance(validator, Text):
        return _text(validator)
    if isinstance(validator, Number):
        return {"type": "integer", "minimum": validator.lowest, "maximum": validator.highest}
    if validator is filter_text:
        return {"type": "string"}
    raise TypeError(f"no JSON Schema for the validator {validator!r}")


def _object(fields: dict[Any, Any]) -> Schema:
    properties = {str(name): schema_of(validator) for name, validator in fields.items()}
    required = [str(name) for name in fields if isinstance(name, vol.Required)]
    schema = {"type": "object", "properties": properties}
    return {**schema, "required": required} if required else schema


def _all(validator: vol.All) -> Schema:
    """Return the schema of the fields inside a wrapper.

    Of the checks around the fields, only ``something_to_change`` has a JSON Schema equivalent.
    """
    fields = next(part for part in validator.validators if isinstance(part, vol.Schema))
    schema = _object(fields.schema)
    if something_to_change in validator.validators:
        return {**schema, "minProperties": 1}
    return schema


def _text(validator: Text) -> Schema:
    schema = {"type": "string", "minLength": validator.shortest, "examples": [validator.example]}
    if validator.longest is not None:
        schema["maxLength"] = validator.longest
    if validator.form is not None:
        schema["format"] = validator.form
    if isinstance(validator, TextOrNull):
        # The empty text is accepted too. It means null.
        return nullable({**schema, "minLength": 0})
    # Blank text is treated as missing.
    return {**schema, "pattern": r"\S"}
