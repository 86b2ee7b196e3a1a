"""Request bodies: bounded reading, strict JSON, and the schema that stands on the route."""

import asyncio
from typing import Any

import orjson
from aiohttp import web

from service.http.auth import reauthenticate
from service.http.errors import SETTINGS, InvalidInput
from service.http.openapi.schemas import ByDialect
from service.http.routes import Auth, operation_of
from service.http.validation import NOT_ALLOWED, check

BODY_TIMEOUT = 30.0  # Seconds: a body that dribbles in for longer is refused with 408.

# The names of a body come back in the response: it must not be larger than the request.
MAX_NAMES = 100
MAX_NAME_LENGTH = 100


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
        await reauthenticate(request)
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
