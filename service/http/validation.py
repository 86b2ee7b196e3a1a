"""voluptuous schemas and validators with the contract's words."""

from collections.abc import Callable, Mapping
from typing import Any

import voluptuous as vol

from service.http.errors import BLANK, InvalidInput

NOT_ALLOWED = "has a character that is not allowed"


def wrapped(
    wrapper: str, fields: dict[Any, Any], *checks: Callable[[dict[str, Any]], dict[str, Any]]
) -> vol.Schema:
    """A schema for ``{"<wrapper>": {<fields>}}``. Fields that it doesn't name are ignored.

    ``checks`` look at the fields together once each has passed, and return what is kept.
    """
    inner = vol.Schema(fields, extra=vol.REMOVE_EXTRA)

    def is_object(value: Any) -> Any:
        if value is None:
            raise vol.Invalid(BLANK)
        if not isinstance(value, dict):
            raise vol.Invalid("must be an object")
        return value

    return vol.Schema(
        {vol.Required(wrapper, msg=BLANK): vol.All(is_object, inner, *checks)},
        extra=vol.REMOVE_EXTRA,
    )


def something_to_change(given: dict[str, Any]) -> dict[str, Any]:
    """A check for ``wrapped``: an update names at least one field."""
    if not given:
        raise vol.Invalid("must have at least one field to change")
    return given


def required(name: str) -> vol.Required:
    """The key of a field that must be given."""
    return vol.Required(name, msg=BLANK)


class Text:
    """A validator for a string that is not blank, and what the document says of it.

    ``shortest`` and ``longest`` count characters; with a ``shortest`` of 0 the text may be blank.
    ``checks`` run after that, in order, and return the value that is kept. ``example`` and ``form``
    (JSON Schema's ``format``) are documentation.
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
    """The same, but null is a value too, and ``""`` means null."""

    def __call__(self, value: Any) -> Any:
        return None if value is None or value == "" else super().__call__(value)


def check(data: Any, schema: vol.Schema, known: Mapping[str, list[str]] | None = None) -> Any:
    """``data`` as ``schema`` makes it. Raises ``InvalidInput`` with every faulty field.

    ``known`` are faults that were found before, by the field: nothing more is said of these.
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
    """The field that an error is about: below the wrapper, above the places of a list."""
    # A key that is missing stands there as its marker, not as its name.
    names = [str(part) for part in path if isinstance(part, str | vol.Marker)]
    return names[1] if len(names) > 1 else names[0]
