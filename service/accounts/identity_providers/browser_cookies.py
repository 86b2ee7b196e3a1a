"""The cookie that binds a flow to the browser in which it began.

Each flow has a cookie of its own, so that two tabs can have a flow each. The prefix ``__Host-``
keeps other hosts of the same domain from setting it (RFC 6265bis, section 4.1.3.2).
"""

import re
from collections.abc import Iterable, Mapping

from aiohttp import hdrs, web

from service.accounts.one_time_tokens import Purpose
from service.accounts.sessions.opaque_tokens import digest_of
from service.settings.settings import Settings

MAX_COOKIES = 8
"""The maximum of flows of one browser. One more removes the cookie of the oldest."""

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


def _prefix(settings: Settings) -> str:
    # Browsers accept the prefix only with https.
    return "__Host-oauth-" if settings.public_url.startswith("https://") else "oauth-"


def _name(settings: Settings, state: str) -> str:
    return _prefix(settings) + digest_of(state).hex()[:16]


def _header(settings: Settings, name: str, value: str, max_age: int) -> str:
    # Lax: the browser sends the cookie when the provider redirects to the callback.
    secure = "; Secure" if settings.public_url.startswith("https://") else ""
    return f"{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}"


def set_cookie(
    settings: Settings,
    response: web.StreamResponse,
    state: str,
    secret: str,
    cookies: Iterable[str],
) -> None:
    """Set the cookie of the flow with ``state`` to ``secret``.

    ``cookies`` are the names of those that the browser has sent.
    """
    ttl = Purpose.PROVIDER_STATE.ttl
    response.headers.add(hdrs.SET_COOKIE, _header(settings, _name(settings, state), secret, ttl))
    # Browsers send the oldest cookie first (RFC 6265, section 5.4).
    names = [name for name in cookies if name.startswith(_prefix(settings))]
    for name in names[: max(0, len(names) + 1 - MAX_COOKIES)]:
        response.headers.add(hdrs.SET_COOKIE, _header(settings, name, "", 0))


def read_cookie(settings: Settings, cookies: Mapping[str, str], state: str) -> str | None:
    """Return the secret of the flow with ``state``, or ``None`` in another browser.

    A client can send any bytes as the cookie. A value that is no secret counts as none.
    """
    secret = cookies.get(_name(settings, state), "")
    return secret if _SECRET.fullmatch(secret) else None


def delete_cookie(settings: Settings, response: web.StreamResponse, state: str) -> None:
    """Delete the cookie of the flow with ``state``."""
    response.headers.add(hdrs.SET_COOKIE, _header(settings, _name(settings, state), "", 0))
