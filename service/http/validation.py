"""Request bodies: bounded reading, strict JSON, voluptuous schemas with the contract's words."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import voluptuous as vol
from aiohttp import web

from service.http.auth import identify_again
from service.http.errors import BLANK, SETTINGS, InvalidInput
from service.http.routes import Auth, operation_of
from service.http.schemas import ByDialect

BODY_TIMEOUT = 30.0  # Seconds: a body that dribbles in for longer is refused with 408.

NOT_ALLOWED = "has a character that is not allowed"

# The names of a body come back in the response: it must not be larger than the request.
MAX_NAMES = 100
MAX_NAME_LENGTH = 100


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


async def read_body(request: web.Request) -> Any:
    """The request's JSON body, checked by the schema that stands on the route.

    Raises ``InvalidInput`` with every faulty field, ``Unauthorized`` when the session ended while
    the body was on its way, ``ConnectionResetError`` when the client disconnected before its end,
    and aiohttp's 408 and 413.
    """
    operation = operation_of(request)
    assert operation is not None and operation.body is not None, "the route names no body"
    waits = not request.content.is_eof()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            raw = await request.read()
    except OSError as error:
        if request.transport is None:
            # The kernel has several errors for a lost connection, ETIMEDOUT (a TimeoutError) too.
            raise ConnectionResetError("the upload broke off") from error
        if isinstance(error, TimeoutError):
            raise web.HTTPRequestTimeout from None
        raise
    except web.RequestPayloadError:
        # A body that breaks off, or whose Content-Encoding is not what it says.
        raise InvalidInput({"body": ["cannot be read"]}) from None
    # Whoever holds back a body must not write with a session that was ended meanwhile.
    if waits and operation.auth is Auth.REQUIRED:
        await identify_again(request)
    data = _parse(raw)
    schema = operation.body
    if isinstance(schema, ByDialect):
        schema = schema.of(request.app[SETTINGS].realworld_strict)
    # PostgreSQL's text cannot hold a NUL, so that none is let in, whatever the field.
    nuls = _places_of_nul(data) if b"\\u0000" in raw else set()
    return check(data, schema, {place: [NOT_ALLOWED] for place in nuls})


def _parse(raw: bytes) -> dict[str, Any]:
    """The object in ``raw``. Raises ``InvalidInput`` on anything but a JSON object.

    orjson refuses NaN, lone surrogates, broken UTF-8 and more than a thousand levels of nesting.
    """
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise InvalidInput({"body": ["is not valid JSON"]}) from None
    if not isinstance(data, dict):
        raise InvalidInput({"body": ["must be a JSON object"]})
    return data


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


def _places_of_nul(data: dict[str, Any]) -> set[str]:
    """The names of the fields below which a NUL stands, at most ``MAX_NAMES``.

    One in a name counts for what it is in, as does one below a name that is too long to repeat.
    """
    found: set[str] = set()
    waiting: list[tuple[str, Any]] = [("body", data)]
    while waiting and len(found) < MAX_NAMES:
        place, value = waiting.pop()
        if isinstance(value, str) and "\0" in value:
            found.add(place)
        elif isinstance(value, dict):
            for name, below in value.items():
                if "\0" in name:
                    found.add(place)
                else:
                    waiting.append((name if len(name) <= MAX_NAME_LENGTH else place, below))
        elif isinstance(value, list):
            waiting.extend((place, item) for item in value)
    return found
