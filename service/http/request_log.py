"""Log one line per request: JSON, or plain text on a terminal.

A line never contains a body, a header other than the request id, or a query string.
"""

import asyncio
import itertools
import os
import re
import secrets
import sys
import time
from typing import NamedTuple, TextIO
from uuid import UUID

from aiohttp import web
from aiohttp.typedefs import Middleware

from service.http.errors import Handler
from service.http.responses import REQUEST_ID_HEADER, JsonResponse
from service.logs import REQUEST_ID

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NUMBERS = itertools.count(1)
_prefix = secrets.token_hex(6)

CLIENT_GONE = 499  # nginx's status for a client that disconnected before its response.
VERSION_NOT_SUPPORTED = 505  # The only 5xx status that a client causes.


def _renew_prefix() -> None:
    global _prefix
    _prefix = secrets.token_hex(6)


# Forked workers count from the same number. Each needs its own prefix, or request ids would repeat.
os.register_at_fork(after_in_child=_renew_prefix)


def request_id_of(request: web.BaseRequest) -> str:
    """Return the client's ``X-Request-ID`` if it is short and safe to log, or a new id."""
    given = request.headers.get(REQUEST_ID_HEADER)
    if given is not None and _ACCEPTABLE.fullmatch(given):
        return given
    return f"{_prefix}-{next(_NUMBERS):x}"


class Line(NamedTuple):
    """The log line of one completed request."""

    responded_at: float
    """The time of the response, in seconds since 1970."""
    request_id: str
    method: str
    route: str | None
    """The path template of the route, or ``None`` if no route matched."""
    status: int
    seconds: float
    """The duration until the response was complete, in seconds."""
    user_id: UUID | None
    key: str | None = None
    """The name of the API key, which has no character that JSON must escape."""


class RequestLog:
    """Write request lines to ``stream``, in one batch per iteration of the event loop."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._render = self._plain if self._stream.isatty() else self._json
        self._lines: list[Line] = []
        self._millisecond = 0  # The millisecond of the cached ``_timestamp``.
        self._timestamp = ""

    def write(self, line: Line) -> None:
        """Queue the line of one completed request."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write the queued lines. Ignore write errors: a broken log must not stop the service."""
        lines, self._lines = self._lines, []
        try:
            self._stream.write("".join(map(self._render, lines)))
            self._stream.flush()
        except (OSError, ValueError):
            return

    @staticmethod
    def _plain(line: Line) -> str:
        _, request_id, method, route, status, seconds, user_id, key = line
        text = f"{status} {method} {route or '(no such path)'} {seconds * 1000:.2f} ms"
        return f"{text}  {request_id} {user_id or key or ''}".rstrip() + "\n"

    def _json(self, line: Line) -> str:
        # Formatting by hand takes half the time of a JSON library. It is safe: none of these texts
        # can contain a character that JSON must escape.
        responded_at, request_id, method, route, status, seconds, user_id, key = line
        level = "error" if status >= 500 and status != VERSION_NOT_SUPPORTED else "info"
        route_json = f'"{route}"' if route is not None else "null"
        user_json = f'"{user_id}"' if user_id is not None else "null"
        key_json = f',"key":"{key}"' if key is not None else ""
        return (
            f'{{"time":"{self._format_time(responded_at)}","level":"{level}","request_id":"{request_id}",'
            f'"method":"{method}","route":{route_json},"status":{status},'
            f'"milliseconds":{seconds * 1000:.2f},"user_id":{user_json}{key_json}}}\n'
        )

    def _format_time(self, seconds: float) -> str:
        millisecond = int(seconds * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, fraction = divmod(millisecond, 1000)
            whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._timestamp = f"{whole}.{fraction:03d}Z"
        return self._timestamp


REQUEST_LOG = web.AppKey("request_log", RequestLog)


def route_of(request: web.Request) -> str | None:
    """Return the path template of the matched route, such as ``/api/articles/{slug}``.

    Return ``None`` if no route matched.
    """
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else None


def request_log_middleware(log: RequestLog) -> Middleware:
    """Assign an id to each request, call its handler, and write its line to ``log``."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        request_id = request_id_of(request)
        REQUEST_ID.set(request_id)
        status = CLIENT_GONE
        try:
            response = await handler(request)
            if type(response) is JsonResponse:
                response.request_id = request_id
            else:
                response.headers[REQUEST_ID_HEADER] = request_id
            status = response.status
            return response
        finally:
            user = request.get("user")
            key = request.get("key") if user is None else None
            log.write(
                Line(
                    time.time(),
                    request_id,
                    request.method,
                    route_of(request),
                    status,
                    time.perf_counter() - started,
                    user.id if user is not None else None,
                    key.name if key is not None else None,
                )
            )

    return middleware
