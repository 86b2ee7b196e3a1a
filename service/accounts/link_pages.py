"""Show the pages of mailed links: the effect of a link, its result, and its errors.

A person opens the link in a browser and sends the form on the page. Opening the link changes
nothing: mail scanners open every link, and some run the scripts of a page. The pages need no
script.
"""

import functools
from collections.abc import Awaitable, Callable
from importlib.resources import files

import voluptuous as vol
from aiohttp import hdrs, web

from service.accounts.one_time_tokens import TOKEN, LinkExpired
from service.database.circuit_breaker import DatabaseUnavailable
from service.http.app_keys import SETTINGS
from service.http.bodies import is_form
from service.http.error_codes import ErrorCode
from service.http.errors import BLANK, ApiError, InvalidInput, NotFound, Unavailable, status_of
from service.http.openapi.schemas import Media, object_of, string
from service.http.pages import page_response
from service.http.parameters import QueryString
from service.http.responses import json_response
from service.http.validation import required

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LINK_QUERY = QueryString(token=(TOKEN, None))
"""The query string of a link."""
LINK_BODY = vol.Schema({required("token"): TOKEN}, extra=vol.REMOVE_EXTRA)
"""The body of a form, or of a JSON request, that needs only the token of a link."""
LINK_ERRORS = (NotFound("token"), LinkExpired())
"""Examples of the errors of every token, for the OpenAPI document."""
PAGE_ERRORS = (InvalidInput({"token": [BLANK]}), *LINK_ERRORS)
"""Examples of the errors of the GET of a page."""
_PAGE = string(example="<!doctype html>...")
PAGE_RESPONSES = {200: Media(("text/html",), _PAGE)}
"""The response to the GET of a page, for the OpenAPI document."""

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


def message_schema(text: str) -> object:
    """Return the schema of a JSON response that has only a message."""
    return object_of(message=string(example=text))


def result_responses(message: str) -> dict[int, Media]:
    """Return the response that ``result`` makes of ``message``, for the OpenAPI document."""
    return {200: Media(("text/html",), _PAGE, message_schema(message))}


def link_token(request: web.Request) -> str:
    """Return the token in the URL of a link. Raise ``InvalidInput`` if there is none."""
    token = LINK_QUERY.read(request)["token"]
    if token is None:
        raise InvalidInput({"token": [BLANK]})
    return str(token)


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
