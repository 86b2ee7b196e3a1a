"""One line a request: JSON for machines, plain on a terminal. Never a body, a header or a query."""

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
from multidict import istr

from service.http.errors import Handler
from service.logs import REQUEST_ID

HEADER = istr("X-Request-ID")

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NUMBERS = itertools.count(1)
_prefix = secrets.token_hex(6)

CLIENT_GONE = 499  # nginx's word for it: nobody was there to take the answer.
VERSION_NOT_SUPPORTED = 505  # The only status of 500 and above that a client causes.


def _renew_prefix() -> None:
    global _prefix
    _prefix = secrets.token_hex(6)


# A forked worker counts from the same number as its siblings and needs a prefix of its own.
os.register_at_fork(after_in_child=_renew_prefix)


def request_id_of(request: web.BaseRequest) -> str:
    """The client's own ``X-Request-ID`` where it is short and harmless, or a new one."""
    given = request.headers.get(HEADER)
    if given is not None and _ACCEPTABLE.fullmatch(given):
        return given
    return f"{_prefix}-{next(_NUMBERS):x}"


class Line(NamedTuple):
    """One answered request."""

    answered: float
    """When, in seconds since 1970."""
    request_id: str
    method: str
    route: str | None
    """The template of the path, if it has one."""
    status: int
    seconds: float
    """How long the answer took."""
    user_id: UUID | None


class RequestLog:
    """Writes the lines to ``stream``, all those of one turn of the event loop at once."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._render = self._plain if self._stream.isatty() else self._json
        self._lines: list[Line] = []
        self._millisecond = 0  # The one that the time stamp was last written for.
        self._timestamp = ""

    def write(self, line: Line) -> None:
        """Note one answered request."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write what waits. A log that nobody can take any more must not stop the service."""
        lines, self._lines = self._lines, []
        try:
            self._stream.write("".join(map(self._render, lines)))
            self._stream.flush()
        except (OSError, ValueError):
            return

    @staticmethod
    def _plain(line: Line) -> str:
        _, request_id, method, route, status, seconds, user_id = line
        text = f"{status} {method} {route or '(no such path)'} {seconds * 1000:.2f} ms"
        return f"{text}  {request_id} {user_id or ''}".rstrip() + "\n"

    def _json(self, line: Line) -> str:
        # Put together by hand, in half the time of a JSON library: none of these texts can hold a
        # character that JSON would escape.
        answered, request_id, method, route, status, seconds, user_id = line
        level = "error" if status >= 500 and status != VERSION_NOT_SUPPORTED else "info"
        shown_route = f'"{route}"' if route is not None else "null"
        shown_user = f'"{user_id}"' if user_id is not None else "null"
        return (
            f'{{"time":"{self._shown(answered)}","level":"{level}","request_id":"{request_id}",'
            f'"method":"{method}","route":{shown_route},"status":{status},'
            f'"milliseconds":{seconds * 1000:.2f},"user_id":{shown_user}}}\n'
        )

    def _shown(self, seconds: float) -> str:
        millisecond = int(seconds * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, fraction = divmod(millisecond, 1000)
            whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._timestamp = f"{whole}.{fraction:03d}Z"
        return self._timestamp


REQUEST_LOG = web.AppKey("request_log", RequestLog)


def route_of(request: web.Request) -> str | None:
    """The template of the path that matched, such as ``/api/articles/{slug}``."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else None


def request_log_middleware(log: RequestLog) -> Middleware:
    """Gives each request its id, passes it on, and writes its line to ``log``."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        request_id = request_id_of(request)
        REQUEST_ID.set(request_id)
        status = CLIENT_GONE
        try:
            response = await handler(request)
            response.headers[HEADER] = request_id
            status = response.status
            return response
        finally:
            user = request.get("user")
            log.write(
                Line(
                    time.time(),
                    request_id,
                    request.method,
                    route_of(request),
                    status,
                    time.perf_counter() - started,
                    user.id if user is not None else None,
                )
            )

    return middleware
