"""JSON answers."""

import functools
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import formatdate
from typing import Any

import orjson
from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from service.http.security_headers import add_security_headers

JSON = "application/json; charset=utf-8"
MAX_PAGE_BYTES = 2 * 1024 * 1024  # Where a page ends, whatever its limit; one item always fits.


class JsonResponse(web.StreamResponse):
    """An answer whose body is there, whole, as bytes of JSON.

    ``web.Response`` asks of every answer what this kind never has (compression, chunks, cookies, a
    payload to be read from somewhere, a signal before the head), and that takes a fifth of the time
    of a quick request. This one just writes its head and its body, through the same writer. An
    answer that needs any of those is a ``web.Response``.
    """

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str] | None) -> None:
        super().__init__(status=status, headers=headers)
        self.body = body
        self._request: web.BaseRequest | None = None
        self._is_last = False

    @property
    def prepared(self) -> bool:
        """Whether the head was written."""
        return self._request is not None

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after this answer."""
        return self._request is not None and self._request.keep_alive and not self._is_last

    def force_close(self) -> None:
        """Close the connection after this answer."""
        self._is_last = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write the head (RFC 9112, section 4; what it says of the connection: section 9.3)."""
        writer = request.writer
        if self._request is not None:
            return writer
        self._request = request
        # A request of another version is refused in ours (RFC 9110, section 2.5).
        version = HttpVersion10 if request.version == HttpVersion10 else HttpVersion11
        headers = self.headers
        headers[hdrs.CONTENT_TYPE] = JSON
        headers[hdrs.CONTENT_LENGTH] = str(len(self.body))
        headers[hdrs.DATE] = _http_date(int(time.time()))
        add_security_headers(request, self)
        if not self.keep_alive:
            if version == HttpVersion11:
                headers[hdrs.CONNECTION] = "close"
        elif version == HttpVersion10:
            headers[hdrs.CONNECTION] = "keep-alive"
        status_line = f"HTTP/{version.major}.{version.minor} {self.status} {self.reason}"
        await writer.write_headers(status_line, headers)
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Write the body, or none where only the head was asked for; ``data`` is always empty."""
        assert self._request is not None, "the head comes first"
        is_head = self._request.method == hdrs.METH_HEAD
        await self._request.writer.write_eof(b"" if is_head else self.body)


@functools.lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)


def json_response(
    data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> JsonResponse:
    """Answer with ``data`` as JSON in UTF-8.

    ``data`` is anything orjson writes; ``status`` the HTTP status; ``headers`` come on top.
    """
    return JsonResponse(orjson.dumps(data), status, headers)


def render_page(items: Iterable[Any]) -> list[orjson.Fragment]:
    """Render the first of ``items``, at least one, until ``MAX_PAGE_BYTES`` are reached.

    The bytes are those of the response, in which a control character takes six. ``json_response``
    copies the fragments, so that each item is rendered once.
    """
    page: list[orjson.Fragment] = []
    size = 0
    for item in items:
        rendered = orjson.dumps(item)
        size += len(rendered) + 1  # The comma.
        if page and size > MAX_PAGE_BYTES:
            break
        page.append(orjson.Fragment(rendered))
    return page


def timestamp(time: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and ``Z``; ``time`` is in UTC, as PostgreSQL answers."""
    return time.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
