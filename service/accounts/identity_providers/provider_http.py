"""Send requests to identity providers: with limits of time and size, and without redirects."""

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from service.accounts.identity_providers.errors import (
    InvalidResponse,
    NoResponse,
    UnexpectedStatus,
)

TIMEOUT = 10.0  # Seconds for all requests to a provider that one request to the service needs.
MAX_BODY = 262_144  # In bytes. Discovery documents and key sets have some 20 kB.
CONNECTIONS_PER_HOST = 20


class ProviderHttp:
    """A client for JSON resources. It keeps no cookies."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        """Return the session, which belongs to the event loop of the first request."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit_per_host=CONNECTIONS_PER_HOST),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                # A compressed body could be far larger than its bytes on the wire.
                auto_decompress=False,
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "conduit-accounts",
                },
            )
        return self._session

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Any:
        """Return the JSON of the response to a GET request with status 200.

        Raise ``InvalidResponse``, and ``NoResponse`` if the provider cannot be reached, is too
        slow, or has failed.
        """
        status, body = await self._send("GET", url, None, headers)
        if status != 200:
            raise UnexpectedStatus(status)
        return body

    async def post_form(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return the status and the JSON of the response to a form. Raise as ``get`` does."""
        return await self._send("POST", url, form, headers)

    async def _send(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
    ) -> tuple[int, Any]:
        try:
            async with self._open().request(
                method, url, data=form, headers=headers, allow_redirects=False
            ) as response:
                if response.status >= 500 or response.status == 429:
                    raise NoResponse(f"status {response.status}")
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise InvalidResponse("the body is too large")
                return response.status, _parse(bytes(body))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NoResponse(type(error).__name__) from error
        except ValueError as error:  # yarl cannot parse the URL.
            raise InvalidResponse(type(error).__name__) from error


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidResponse("the body is not JSON") from None
