"""Build JSON responses."""

import functools
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any

import orjson
from aiohttp import HttpVersion10, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import _serialize_headers
from aiohttp.web_response import REASON_PHRASES
from multidict import istr

from service.http.security_headers import NOSNIFF, may_have_token

REQUEST_ID_HEADER = istr("X-Request-ID")
JSON = "application/json; charset=utf-8"
MAX_PAGE_BYTES = 2 * 1024 * 1024  # Limits any page of items. One item always fits.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JsonResponse(web.StreamResponse):
    """A response whose complete body is available as bytes of JSON.

    ``web.Response`` checks every response for compression, chunks, cookies, a payload to read and a
    signal before the head. These checks take a fifth of the time of a fast request. A JSON response
    has none of these features. Its head and its body are one piece. Use ``web.Response`` for a
    response that needs one of these features.
    """

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str] | None) -> None:
        super().__init__(status=status, headers=headers)
        self.body = body
        self.request_id: str | None = None
        """The value of the ``X-Request-ID`` header, without control characters."""

    @property
    def is_last(self) -> bool:
        """Return whether the connection closes after this response."""
        return self._keep_alive is False

    def render(self, request: web.BaseRequest) -> bytes:
        """Return the bytes of the response to ``request``: the head (RFC 9112) and the body."""
        self._payload_writer = request.writer
        is_old = request.version == HttpVersion10
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        if self._keep_alive is is_old:  # Not the default of the version.
            self.headers[hdrs.CONNECTION] = "keep-alive" if is_old else "close"
        is_private = may_have_token(request)
        start = _start(is_old, self.status, is_private, int(time.time()))
        head = f"{start}{hdrs.CONTENT_LENGTH}: {len(self.body)}\r\n"
        if self.request_id is not None:
            head += f"{REQUEST_ID_HEADER}: {self.request_id}\r\n"
        rest = b"\r\n"
        if self.headers:
            if is_private:
                self.headers.popall(hdrs.CACHE_CONTROL, None)
            # Rejects control characters. The first line is the status line, which is empty here.
            rest = _serialize_headers("", self.headers).removeprefix(b"\r\n")
        body = b"" if request.method == hdrs.METH_HEAD else self.body
        return b"".join((head.encode(), rest, body))

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write the whole response, on a connection of aiohttp's own protocol."""
        if not self.prepared:
            await request.writer.write(self.render(request))
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """End the response. ``data`` is always empty."""
        assert self._payload_writer is not None, "the head comes first"
        await self._payload_writer.write_eof()


@functools.lru_cache(maxsize=16)
def _start(is_old: bool, status: int, is_private: bool, second: int) -> str:
    """Return the start of a head, which all responses of one second share.

    The rejection of an unknown version of HTTP is sent as HTTP/1.1 (RFC 9110, section 2.5).
    """
    lines = [
        f"HTTP/1.{0 if is_old else 1} {status} {REASON_PHRASES.get(status, '')}",
        f"{hdrs.CONTENT_TYPE}: {JSON}",
        f"{hdrs.DATE}: {formatdate(second, usegmt=True)}",
        f"{NOSNIFF}: nosniff",
    ]
    if is_private:
        lines.append(f"{hdrs.CACHE_CONTROL}: no-store")
    return "\r\n".join([*lines, ""])


def json_response(
    data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> JsonResponse:
    """Return a response with ``data`` as JSON in UTF-8.

    ``data`` is anything that orjson can serialize. ``status`` is the HTTP status. ``headers`` are
    added to the response.
    """
    return JsonResponse(orjson.dumps(data), status, headers)


def render_page(items: Iterable[Any]) -> list[orjson.Fragment]:
    """Render the first of ``items``, at least one, up to ``MAX_PAGE_BYTES`` in total.

    The size is counted in bytes of the JSON response, where a control character takes six bytes.
    ``json_response`` copies the fragments, so each item is rendered only once.
    """
    page: list[orjson.Fragment] = []
    size = 0
    for item in items:
        rendered = orjson.dumps(item)
        size += len(rendered) + 1  # One byte for the comma.
        if page and size > MAX_PAGE_BYTES:
            break
        page.append(orjson.Fragment(rendered))
    return page


def timestamp(time: datetime) -> str:
    """Format ``time`` as ISO 8601 with milliseconds and ``Z``.

    ``time`` must be in UTC, as PostgreSQL returns it.
    """
    return time.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


@functools.lru_cache(maxsize=4096)
def timestamp_of(microseconds: int) -> str:
    """Format a time, given in microseconds since 1970, as ``timestamp`` does.

    This is for lists: the format takes longer than the rest of an article, and the same articles
    are listed again and again.
    """
    return timestamp(_EPOCH + timedelta(microseconds=microseconds))
