"""Read request bodies: size and time limits, strict JSON, validation by the route's schema.

A route with pages accepts forms too, and a route of OAuth accepts only forms.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

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

FORM = "application/x-www-form-urlencoded"


_NO_TIMEOUT = contextlib.nullcontext()  # For a body that has arrived.

FindErrors = Callable[[dict[str, Any]], Awaitable[Mapping[str, list[str]]]]


async def read_body(request: web.Request, find_errors: FindErrors | None = None) -> Any:
    """Return the request's body, validated by the schema of the route.

    The body is JSON. On a route with pages it may be a form, and ``is_form`` then returns ``True``.
    On a route with the flag ``form`` it must be one.
    ``find_errors`` gets the body before its validation, and returns further errors by field.

    Raise ``InvalidInput`` with every invalid field, ``Unauthorized`` if the session ended before
    the whole body arrived, ``InvalidKey`` if the API key was revoked before,
    ``ConnectionResetError`` if the client disconnected during the upload, ``HTTPRequestTimeout``
    (408) and ``HTTPRequestEntityTooLarge`` (413).
    """
    operation = operation_of(request)
    assert operation is not None and operation.body is not None, "the route names no body"
    waits = not request.content.is_eof()
    try:
        async with asyncio.timeout(BODY_TIMEOUT) if waits else _NO_TIMEOUT:
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
    # A client that delays its body must not write with a session or an API key that was revoked
    # during the delay.
    if waits and operation.auth in (Auth.REQUIRED, Auth.KEY):
        await reauthenticate(request)
    if operation.form and request.content_type != FORM:
        raise InvalidInput({"body": [f"must be a form ({FORM})"]})
    request["is_form"] = operation.form or (operation.pages and _is_form(request, raw))
    data = _parse_form(raw) if request["is_form"] else _parse(raw)
    schema = operation.body
    if isinstance(schema, ByDialect):
        schema = schema.of(request.app[SETTINGS].realworld_strict)
    # PostgreSQL's text type cannot store NUL, so NUL is rejected in every field.
    may_have_nul = request["is_form"] or b"\\u0000" in raw
    nuls = _fields_with_nul(data) if may_have_nul else set()
    known: Mapping[str, list[str]] = {}
    if find_errors is not None:
        known = await find_errors(data)
    return check(data, schema, {**known, **{place: [NOT_ALLOWED] for place in nuls}})


async def form_fields(request: web.Request) -> dict[str, Any]:
    """Return the fields of the form that ``read_body`` has read, also if they are invalid."""
    return _parse_form(await request.read())


def is_form(request: web.Request) -> bool:
    """Return whether the body of ``request`` is a form. Its sender then expects a page.

    Before ``read_body`` has read the body, the content type decides.
    """
    return bool(request.get("is_form", request.content_type == FORM))


def _is_form(request: web.Request, raw: bytes) -> bool:
    # Without another content type, curl sends JSON as a form. A browser encodes the brace.
    return request.content_type == FORM and not raw.lstrip().startswith(b"{")


def _parse_form(raw: bytes) -> dict[str, Any]:
    """Return the fields of a form. The value of a field that was given twice is a list.

    No validator of a field accepts a list. Raise ``InvalidInput`` if the form is malformed.
    """
    data: dict[str, Any] = {}
    try:
        fields = parse_qsl(
            raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_NAMES
        )
    except ValueError:
        raise InvalidInput({"body": ["is not a valid form"]}) from None
    for name, value in fields:
        data[name] = [data[name], value] if name in data else value
    return data


def _parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in ``raw``. Raise ``InvalidInput`` for anything else.

    orjson rejects NaN, lone surrogates, invalid UTF-8 and more than 1,000 levels of nesting. Of a
    name that an object has twice it keeps the last value. An email that is given twice is rejected:
    a check of one of them must not lead to a mail to the other.
    """
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise InvalidInput({"body": ["is not valid JSON"]}) from None
    if not isinstance(data, dict):
        raise InvalidInput({"body": ["must be a JSON object"]})
    # Only the names of a body in which "email" may stand twice, perhaps with escapes, are checked.
    if raw.count(b"email") > 1 or b"\\u00" in raw:
        try:
            json.loads(raw, object_pairs_hook=_reject_two_emails, parse_int=str, parse_float=str)
        except RecursionError:
            raise InvalidInput({"body": ["is not valid JSON"]}) from None
    return data


def _reject_two_emails(pairs: list[tuple[str, Any]]) -> None:
    """Raise ``InvalidInput`` if the ``pairs`` of a JSON object have two emails."""
    if sum(name == "email" for name, _ in pairs) > 1:
        raise InvalidInput({"email": ["must be given once"]})


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
