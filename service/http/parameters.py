"""Read and validate the parameters of a URL: path parameters and the query string."""

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import voluptuous as vol
from aiohttp import web

from service.http.errors import InvalidInput, NotFound
from service.http.openapi.schemas import json_schema
from service.http.validation import NOT_ALLOWED, check

LARGEST = 2**63 - 1  # PostgreSQL's bigint.


def path_text(request: web.Request, name: str) -> str:
    """Return the path parameter ``name``, percent-decoded.

    Raise ``InvalidInput`` if PostgreSQL's text type cannot store it.
    """
    value = request.match_info[name]
    if not is_storable(value):
        raise InvalidInput({name: [NOT_ALLOWED]})
    return value


def path_uuid(request: web.Request, name: str, subject: str) -> UUID:
    """Return the id in the path parameter ``name``.

    Raise ``NotFound`` about ``subject`` unless it has the form in which the API shows ids.
    """
    given = request.match_info[name]
    try:
        found = UUID(given)
    except ValueError:
        raise NotFound(subject) from None
    if str(found) != given.lower():
        raise NotFound(subject)
    return found


def is_storable(value: str) -> bool:
    """Return whether PostgreSQL can store ``value``: Unicode text without NUL and surrogates.

    Invalid percent-escapes are decoded to surrogates.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


class Number:
    """A validator for a whole number from ``lowest`` to ``highest``, written in ASCII digits."""

    def __init__(self, lowest: int, highest: int) -> None:
        self.lowest = lowest
        self.highest = highest

    def __call__(self, value: str) -> int:
        """Return the number. Raise ``vol.Invalid`` if ``value`` is not such a number."""
        # 40 digits exceed every limit. int() is slow for thousands of digits.
        if not re.fullmatch(r"-?[0-9]{1,40}", value):
            raise vol.Invalid("must be a whole number")
        if int(value) < self.lowest:
            raise vol.Invalid(f"must be at least {self.lowest}")
        if int(value) > self.highest:
            raise vol.Invalid(f"must be at most {self.highest}")
        return int(value)


@json_schema({"type": "boolean"})
def flag(value: str) -> bool:
    """Return whether ``value`` is ``true``. Raise ``vol.Invalid`` unless it is a boolean."""
    if value not in ("true", "false"):
        raise vol.Invalid("must be true or false")
    return value == "true"


def filter_text(value: str) -> str:
    """Validate a text to filter by. Raise ``vol.Invalid`` if PostgreSQL cannot store it."""
    if not is_storable(value):
        raise vol.Invalid(NOT_ALLOWED)
    return value


class QueryString:
    """The query parameters of a route, each with its validator and its default."""

    def __init__(self, **parameters: tuple[Callable[[str], Any], Any]) -> None:
        self.validators = {name: validate for name, (validate, _) in parameters.items()}
        self.defaults = {name: default for name, (_, default) in parameters.items()}
        self._schema = vol.Schema({vol.Optional(name): v for name, v in self.validators.items()})

    def read(self, request: web.Request) -> dict[str, Any]:
        """Return the query parameters of ``request``. Treat an empty parameter as not given.

        Raise ``InvalidInput`` with every invalid parameter. A repeated parameter is invalid,
        because its intended value is ambiguous.
        """
        query = request.query
        errors: dict[str, list[str]] = {}
        given = {}
        for name in self.validators:
            values = query.getall(name, ())
            if len(values) > 1:
                errors[name] = ["must be given once"]
            elif values and values[0]:
                given[name] = values[0]
        try:
            checked = check(given, self._schema)
        except InvalidInput as invalid:
            errors.update(invalid.errors)
        if errors:
            raise InvalidInput(dict(sorted(errors.items())))
        return {**self.defaults, **checked}
