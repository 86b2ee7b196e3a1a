"""One line a request: JSON for machines, plain on a terminal. Never a body, a header or a query."""

import asyncio
import itertools
import re
import secrets
import sys
import time
from typing import Any, TextIO

import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware

from service.http.errors import REQUEST_ID, Handler

HEADER = "X-Request-ID"

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PREFIX = secrets.token_hex(6)
_NUMBERS = itertools.count(1)

CLIENT_GONE = 499  # nginx's word for it: nobody was there to take the answer.


def request_id_of(request: web.BaseRequest) -> str:
    """The client's own ``X-Request-ID`` where it is short and harmless, or a new one."""
    given = request.headers.get(HEADER)
    if given is not None and _ACCEPTABLE.fullmatch(given):
        return given
    return f"{_PREFIX}-{next(_NUMBERS):x}"


class RequestLog:
    """Writes the lines to ``stream``, all those of one turn of the event loop at once."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._plain = self._stream.isatty()
        self._lines: list[str] = []
        self._second = 0  # The one that the beginning of a time stamp was last written for.
        self._prefix = ""

    def write(
        self,
        request_id: str,
        method: str,
        route: str | None,
        status: int,
        seconds: float,
        user_id: str | None,
    ) -> None:
        """Note one answered request; ``route`` is the path's template, if it has one."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        level = "error" if status >= 500 else "info"
        milliseconds = round(seconds * 1000, 2)
        if self._plain:
            line = f"{status} {method} {route or '(no such path)'} {milliseconds} ms"
            self._lines.append(f"{line}  {request_id} {user_id or ''}".rstrip() + "\n")
            return
        fields: dict[str, Any] = {
            "time": self._timestamp(),
            "level": level,
            "request_id": request_id,
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": milliseconds,
            "user_id": user_id,
        }
        self._lines.append(orjson.dumps(fields).decode() + "\n")

    def _timestamp(self) -> str:
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        return f"{self._prefix}.{int(now * 1000) % 1000:03d}Z"

    def flush(self) -> None:
        """Write what waits. A log that nobody can take any more must not stop the service."""
        lines, self._lines = self._lines, []
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
        except (OSError, ValueError):
            return


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
        request[REQUEST_ID] = request_id = request_id_of(request)
        status = CLIENT_GONE
        try:
            response = await handler(request)
            response.headers[HEADER] = request_id
            status = response.status
            return response
        finally:
            user = request.get("user")
            log.write(
                request_id,
                request.method,
                route_of(request),
                status,
                time.perf_counter() - started,
                str(user.id) if user is not None else None,
            )

    return middleware
