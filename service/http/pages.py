"""Build HTML pages for people, beside the JSON for programs."""

import re
from pathlib import Path

from aiohttp import hdrs, web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

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


def page_templates(folder: Path) -> Environment:
    """Return the templates of pages in ``folder``.

    Their values are escaped, and a missing value is an error. A change of a file has no effect
    after its first use.
    """
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        cache_size=-1,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_response(page: str, *, status: int = 200, private: bool = False) -> web.Response:
    """Return the response with the HTML of ``page``.

    A page that contains a token must be ``private``.
    """
    headers = PRIVATE_HEADERS if private else HEADERS
    return web.Response(
        status=status, body=page.encode(), headers={**headers, "Content-Type": HTML}
    )


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
