"""Build HTML pages for people, beside the JSON for programs."""

import html
import re
from string import Template

from aiohttp import hdrs, web

HTML = "text/html; charset=utf-8"

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "style-src 'self'",
            "img-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""The headers of a page: it loads only files of this service, and contains no inline code."""


PRIVATE_HEADERS = {
    **HEADERS,
    "Content-Security-Policy": HEADERS["Content-Security-Policy"].replace(
        "form-action 'none'", "form-action 'self'"
    ),
    "Cache-Control": "no-store",
}
"""The headers of a page for one person. No cache stores it, and its forms go to this service."""


def page_response(
    template: str, values: dict[str, str], *, status: int = 200, private: bool = False
) -> web.Response:
    """Return the page ``template`` with each ``$name`` replaced by its escaped value.

    A page that contains a token must be ``private``. Raise ``KeyError`` if a value is missing.
    """
    escaped = {name: html.escape(value) for name, value in values.items()}
    body = Template(template).substitute(escaped).encode()
    headers = PRIVATE_HEADERS if private else HEADERS
    return web.Response(status=status, body=body, headers={**headers, "Content-Type": HTML})


def prefers_html(request: web.Request) -> bool:
    """Return whether the client prefers HTML to JSON (RFC 9110, section 12.5.1).

    Browsers list ``text/html``. Programs send ``*/*`` or no ``Accept`` header, and get JSON.
    """
    accept = ",".join(request.headers.getall(hdrs.ACCEPT, ["*/*"])).lower()
    return _quality(accept, "text/html") > _quality(accept, "application/json")


def _quality(accept: str, media_type: str) -> float:
    """Return the quality, from 0 to 1, of ``media_type``. The most specific range decides."""
    ranges = ["*/*", media_type.partition("/")[0] + "/*", media_type]
    found = (-1, 0.0)
    for part in accept.split(","):
        name, _, parameters = part.partition(";")
        if (name := name.strip()) in ranges:
            given = re.search(r"(?:^|;)\s*q=([01](?:\.[0-9]{0,3})?)\s*(?:;|$)", parameters)
            found = max(found, (ranges.index(name), float(given[1]) if given else 1.0))
    return found[1]
