"""Build voluptuous schemas and validators with the error messages of the API contract."""

from collections.abc import Callable, Mapping
from typing import Any

import voluptuous as vol

from service.http.errors import BLANK, InvalidInput
from service.http.openapi.schemas import json_schema

NOT_ALLOWED = "has a character that is not allowed"


def wrapped(
    wrapper: str, fields: dict[Any, Any], *checks: Callable[[dict[str, Any]], dict[str, Any]]
) -> vol.Schema:
    """Return a schema for ``{"<wrapper>": {<fields>}}``. ``nested`` describes the arguments."""
    return vol.Schema({required(wrapper): nested(fields, *checks)}, extra=vol.REMOVE_EXTRA)


def nested(fields: dict[Any, Any], *checks: Callable[[dict[str, Any]], dict[str, Any]]) -> vol.All:
    """Return a validator for an object inside a body. It ignores unknown fields.

    ``checks`` run after every field has passed. Each receives all fields and returns the fields to
    keep.
    """

    def is_object(value: Any) -> Any:
        if value is None:
            raise vol.Invalid(BLANK)
        if not isinstance(value, dict):
            raise vol.Invalid("must be an object")
        return value

    return vol.All(is_object, vol.Schema(fields, extra=vol.REMOVE_EXTRA), *checks)


def something_to_change(given: dict[str, Any]) -> dict[str, Any]:
    """Require at least one field in an update. Raise ``vol.Invalid``. A check for ``wrapped``."""
    if not given:
        raise vol.Invalid("must have at least one field to change")
    return given


def required(name: str) -> vol.Required:
    """Return the schema key of a required field."""
    return vol.Required(name, msg=BLANK)


class Text:
    """A validator for a string that is not blank, and its description in the OpenAPI document.

    ``shortest`` and ``longest`` are lengths in characters. With a ``shortest`` of 0, the text may
    be blank. ``checks`` run after the length checks, in order. Each returns the value to keep.
    ``example`` and ``form`` (JSON Schema's ``format``) are only documentation.
    """

    def __init__(
        self,
        *checks: Callable[[str], str],
        shortest: int = 1,
        longest: int | None = None,
        example: str,
        form: str | None = None,
    ) -> None:
        self.checks = checks
        self.shortest = shortest
        self.longest = longest
        self.example = example
        self.form = form

    def __call__(self, value: Any) -> str:
        """Return the text that the checks return. Raise ``vol.Invalid`` for any other value."""
        if value is None:
            raise vol.Invalid(BLANK)
        if not isinstance(value, str):
            raise vol.Invalid("must be a string")
        if self.shortest and not value.strip():
            raise vol.Invalid(BLANK)
        if len(value) < self.shortest:
            raise vol.Invalid(f"is too short (minimum is {self.shortest} characters)")
        if self.longest is not None and len(value) > self.longest:
            raise vol.Invalid(f"is too long (maximum is {self.longest} characters)")
        for check in self.checks:
            value = check(value)
        return str(value)


class TextOrNull(Text):
    """A validator like ``Text`` that also accepts null. It converts ``""`` to null."""

    def __call__(self, value: Any) -> Any:
        """Return the text or ``None``. Raise ``vol.Invalid`` as ``Text`` does."""
        return None if value is None or value == "" else super().__call__(value)


@json_schema({"type": "boolean", "examples": [True]})
def boolean(value: Any) -> bool:
    """Return a boolean. Raise ``vol.Invalid`` for any other value, also for 0 and 1."""
    if not isinstance(value, bool):
        raise vol.Invalid("must be true or false")
    return value


def check(data: Any, schema: vol.Schema, known: Mapping[str, list[str]] | None = None) -> Any:
    """Return ``data`` as validated and converted by ``schema``.

    Raise ``InvalidInput`` with every invalid field. ``known`` maps fields to messages of earlier
    checks. These messages replace the schema's messages for the same fields.
    """
    errors: dict[str, list[str]] = {}
    try:
        checked = schema(data)
    except vol.MultipleInvalid as invalid:
        for error in invalid.errors:
            messages = errors.setdefault(_field(error.path), [])
            if error.msg not in messages:
                messages.append(error.msg)
    errors.update(known or {})
    if errors:
        raise InvalidInput(dict(sorted(errors.items())))
    return checked


def _field(path: list[Any]) -> str:
    """Return the name of the invalid field, without the wrapper and without list positions."""
    # For a missing key, the path contains the key's marker, not its name.
    names = [str(part) for part in path if isinstance(part, str | vol.Marker)]
    return names[1] if len(names) > 1 else names[0]
