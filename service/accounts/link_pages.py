"""Show the pages of mailed links: the effect of a link, its result, and its errors.

A person opens the link in a browser and sends the form on the page. Opening the link changes
nothing: mail scanners open every link, and some run the scripts of a page. The pages need no
script.
"""

import functools
from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import hdrs, web

from service.database.circuit_breaker import DatabaseUnavailable
from service.http.app_keys import SETTINGS
from service.http.bodies import is_form
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError, Unavailable, status_of
from service.http.pages import page_response
from service.http.responses import json_response

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ERRORS = {
    ErrorCode.INVALID_INPUT: (
        "This link is not complete",
        "Open the link in the mail again. If you copied it, copy all of it.",
    ),
    ErrorCode.NOT_FOUND: (
        "This link is not valid",
        "It was used already, or a newer link has replaced it.",
    ),
    ErrorCode.ALREADY_TAKEN: (
        "This email has been taken",
        "Another account uses this email now. Nothing was changed.",
    ),
    ErrorCode.LINK_EXPIRED: (
        "This link has expired",
        "Nothing was changed. Ask for another mail.",
    ),
}
"""The title and the text of the page for an error."""
OTHER_ERROR = ("Please try again", "The service could not do this now. Your link is still valid.")

DATABASE_UNAVAILABLE = Unavailable(
    "database", "is not available", code=ErrorCode.DATABASE_UNAVAILABLE, retry_after=2
)


@functools.cache
def template(name: str) -> str:
    """Return the source of the file ``name`` in the folder ``pages``."""
    return (files("service.accounts") / "pages" / name).read_text(encoding="utf-8")


def message_page(title: str, text: str, *, status: int = 200) -> web.Response:
    """Return a page that has only a title and a sentence."""
    values = {"title": title, "text": text}
    return page_response(template("message.html"), values, status=status, private=True)


def result(title: str, message: str, *, page: bool) -> web.StreamResponse:
    """Return the result of a link: a ``page`` for a person, or JSON for a program."""
    return message_page(title, message) if page else json_response({"message": message})


def page_errors(handler: Handler) -> Handler:
    """Return ``handler`` with its errors as pages, for the GET of a page and for forms.

    The errors of a JSON request pass.
    """

    @functools.wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except (ApiError, DatabaseUnavailable) as raised:
            if request.method == hdrs.METH_POST and not is_form(request):
                raise
            error = raised if isinstance(raised, ApiError) else DATABASE_UNAVAILABLE
            status = status_of(error, strict=request.app[SETTINGS].realworld_strict)
            page = message_page(*ERRORS.get(error.code, OTHER_ERROR), status=status)
            page.headers.update(error.headers)
            return page

    return handle
