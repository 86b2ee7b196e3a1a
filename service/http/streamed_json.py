"""Stream a JSON document that is too large to hold in memory."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

from aiohttp import hdrs, web

from service.http.errors import ApiError
from service.http.responses import JSON

logger = logging.getLogger(__name__)

WRITE_TIMEOUT = 30.0  # Seconds that a client may take to read one chunk.


class StreamedJson(web.StreamResponse):
    """A response whose body is written piece by piece, after the middlewares have seen its head.

    The next piece is made after the client has read the one before. If that takes too long, or a
    piece cannot be made, the connection is aborted without the last chunk. So the client knows that
    the document is incomplete (RFC 9112, section 8).
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        headers: Mapping[str, str],
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        """``chunks`` are the pieces of the body, each of a bounded size.

        They may raise an ``ApiError`` or one of ``expected``. Any other error is logged as a fault.
        """
        super().__init__(headers={**headers, hdrs.CONTENT_TYPE: JSON})
        self._chunks = chunks
        self._expected = expected
        self._is_written = False
        self.piece_size = 0
        """The bytes of the piece that is being written."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Write the body and its end. aiohttp calls this after the head was written."""
        request = self._req
        if self._is_written or request is None:
            return
        self._is_written = True
        if request.method == hdrs.METH_HEAD:
            await super().write_eof(data)
            return
        try:
            async for chunk in self._chunks:
                self.piece_size = len(chunk)
                async with asyncio.timeout(WRITE_TIMEOUT):
                    await self.write(chunk)
            await super().write_eof(data)
        except Exception as error:
            if isinstance(error, ConnectionError):
                return  # The client is gone.
            if isinstance(error, (ApiError, TimeoutError, *self._expected)):
                logger.warning("response broken off: error=%s", type(error).__name__)
            else:
                logger.exception("response broken off by an error")
            if request.transport is not None:
                request.transport.abort()
