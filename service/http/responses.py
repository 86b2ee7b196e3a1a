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

from service.http.security_headers import NOSNIFF, may_have_token

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
        self.is_last = False
        """Whether the connection closes after this response."""
        self._request: web.BaseRequest | None = None

    @property
    def prepared(self) -> bool:
        """Return whether the head was written."""
        return self._request is not None

    @property
    def keep_alive(self) -> bool:
        """Return whether the connection stays open after this response."""
        return self._request is not None and self._request.keep_alive and not self.is_last

    def force_close(self) -> None:
        """Close the connection after this response."""
        self.is_last = True

    def render(self, request: web.BaseRequest) -> bytes:
        """Return the bytes of the response to ``request``: the head (RFC 9112) and the body."""
        self._request = request
        is_old = request.version == HttpVersion10
        headers = self.headers
        if not self.keep_alive:
            if not is_old:
                headers[hdrs.CONNECTION] = "close"
        elif is_old:
            headers[hdrs.CONNECTION] = "keep-alive"
        if may_have_token(request):
            headers[hdrs.CACHE_CONTROL] = "no-store"
        headers[hdrs.CONTENT_LENGTH] = str(len(self.body))
        head = _head(is_old, self.status, self.reason, int(time.time()))
        # The serializer rejects control characters. Its first line is the status line: an empty one
        # leaves only the end of the line before it.
        head += _serialize_headers("", headers)
        return head if request.method == hdrs.METH_HEAD else head + self.body

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write the whole response, on a connection of aiohttp's own protocol."""
        if self._request is None:
            await request.writer.write(self.render(request))
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """End the response. ``data`` is always empty."""
        assert self._request is not None, "the head comes first"
        await self._request.writer.write_eof()


@functools.lru_cache(maxsize=16)
def _head(is_old: bool, status: int, reason: str, second: int) -> bytes:
    """Return the start of a head, which all responses of one second share.

    The rejection of an unknown version of HTTP is sent as HTTP/1.1 (RFC 9110, section 2.5).
    """
    return (
        f"HTTP/1.{0 if is_old else 1} {status} {reason}\r\n"
        f"{hdrs.CONTENT_TYPE}: {JSON}\r\n"
        f"{hdrs.DATE}: {formatdate(second, usegmt=True)}\r\n"
        f"{NOSNIFF}: nosniff"
    ).encode()


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
