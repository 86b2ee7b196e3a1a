"""Send the requests of a check to the running service."""

import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

TIMEOUT = 8.0  # Seconds.
MAX_BODY = 65_536  # Bytes that are read.


class NoAnswer(Exception):
    """The service sent no response. The message says why, in words for the operator."""


@dataclass(frozen=True, slots=True)
class Received:
    """A response, with its JSON if it has any."""

    status: int
    json: Any


async def get(url: str, headers: dict[str, str] | None = None) -> Received:
    """Send a GET request and return the response. Follow no redirect. Raise ``NoAnswer``."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            body = await response.content.read(MAX_BODY)
            return Received(response.status, _parse(body))
    except aiohttp.ClientConnectorCertificateError:
        raise NoAnswer("its certificate is not valid for this host") from None
    except (aiohttp.ClientSSLError, ssl.SSLError):
        raise NoAnswer("TLS fails") from None
    except aiohttp.ClientConnectorDNSError:
        raise NoAnswer("its host is unknown") from None
    except TimeoutError:
        raise NoAnswer(f"no response within {TIMEOUT:g} seconds") from None
    except aiohttp.ClientConnectorError:
        raise NoAnswer("the connection is refused") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NoAnswer(type(error).__name__) from None


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
