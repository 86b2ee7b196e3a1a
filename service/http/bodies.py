"""Read request bodies: size and time limits, strict JSON, validation by the route's schema."""

import asyncio
from typing import Any

import orjson
from aiohttp import web

from service.http.app_keys import SETTINGS
from service.http.auth import reauthenticate
from service.http.errors import InvalidInput
from service.http.openapi.schemas import ByDialect
from service.http.routes import Auth, operation_of
from service.http.validation import NOT_ALLOWED, check

BODY_TIMEOUT = 30.0  # Seconds to receive a whole body. A slower body is rejected with 408.

# Error responses repeat field names from the body. With these limits a response is not larger than
# its request.
MAX_NAMES = 100
MAX_NAME_LENGTH = 100


async def read_body(request: web.Request) -> Any:
    """Return the request's JSON body, validated by the schema of the route.

    Raise ``InvalidInput`` with every invalid field, ``Unauthorized`` if the session ended before
    the whole body arrived, ``ConnectionResetError`` if the client disconnected during the upload,
    ``HTTPRequestTimeout`` (408) and ``HTTPRequestEntityTooLarge`` (413).
    """
    operation = operation_of(request)
    assert operation is not None and operation.body is not None, "the route names no body"
    waits = not request.content.is_eof()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            raw = await request.read()
    except OSError as error:
        if request.transport is None:
            # The kernel reports a lost connection by several errors. One of them, ETIMEDOUT, is a
            # TimeoutError.
            raise ConnectionResetError("the upload broke off") from error
        if isinstance(error, TimeoutError):
            raise web.HTTPRequestTimeout from None
        raise
    except web.RequestPayloadError:
        # The body is incomplete, or it does not match its Content-Encoding.
        raise InvalidInput({"body": ["cannot be read"]}) from None
    # A client that delays its body must not write with a session that was revoked during the delay.
    if waits and operation.auth is Auth.REQUIRED:
        await reauthenticate(request)
    data = _parse(raw)
    schema = operation.body
    if isinstance(schema, ByDialect):
        schema = schema.of(request.app[SETTINGS].realworld_strict)
    # PostgreSQL's text type cannot store NUL, so NUL is rejected in every field.
    nuls = _fields_with_nul(data) if b"\\u0000" in raw else set()
    return check(data, schema, {place: [NOT_ALLOWED] for place in nuls})


def _parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in ``raw``. Raise ``InvalidInput`` for anything else.

    orjson rejects NaN, lone surrogates, invalid UTF-8 and more than 1,000 levels of nesting.
    """
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise InvalidInput({"body": ["is not valid JSON"]}) from None
    if not isinstance(data, dict):
        raise InvalidInput({"body": ["must be a JSON object"]})
    return data


def _fields_with_nul(data: dict[str, Any]) -> set[str]:
    """Return the names of the fields that contain a NUL, at most ``MAX_NAMES``.

    A NUL in a field name is reported under the enclosing field. So is a NUL inside a field whose
    name is longer than ``MAX_NAME_LENGTH``, because the response cannot repeat that name.
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
