"""Show the pages of mailed links: the effect of a link, its result, and its errors.

A person opens the link in a browser and sends the form on the page. Opening the link changes
nothing: mail scanners open every link, and some run the scripts of a page. The pages need no
script.

A language is a folder in ``pages``, and a page is a file in it. The page has the language that the
browser prefers, which may be another one than that of the mail. Another language is added by adding
its folder, with every page.
"""

import functools
import math
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from pathlib import Path

import voluptuous as vol
from aiohttp import hdrs, web
from jinja2 import Environment

from service.accounts.one_time_tokens import TOKEN, LinkExpired
from service.http.app_keys import SETTINGS
from service.http.bodies import is_form
from service.http.errors import BLANK, ApiError, Handler, InvalidInput, NotFound, status_of
from service.http.languages import language_of
from service.http.openapi.schemas import Media, object_of, string
from service.http.pages import page_response, page_templates, prefers_html
from service.http.parameters import QueryString
from service.http.responses import JsonResponse, json_response
from service.http.routes import operation_of
from service.http.validation import required

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

FOLDER = Path(__file__).with_name("pages")
DEFAULT_LANGUAGE = "en"

_LINK = {"email": "jake@jake.jake", "token": TOKEN.example}
SAMPLES: Mapping[str, Mapping[str, object]] = {
    "verify_email": {**_LINK, "can_decline": True},
    "email_confirmed": {},
    "account_deleted": {},
    "account_kept": {},
    "change_email": _LINK,
    "email_changed": {},
    "report": {**_LINK, "restores_email": True},
    "reported": {},
    "email_has_other_account": {},
    "reset_password": {**_LINK, "problem": None, "shortest": 8, "longest": 72, "minutes": 1},
    "password_changed": {},
    "unlock_login": {**_LINK, "failures": 100},
    "login_unlocked": {},
    "link_incomplete": {},
    "link_invalid": {},
    "link_expired": {},
    "email_taken": {},
    "try_again": {"minutes": 1},
    "not_accepted": {},
    "login_failed": {},
    "login_unavailable": {"minutes": 1},
}
"""Every page by name, with an example of each of its values."""

ERROR_PAGES = {
    400: "link_incomplete",
    422: "link_incomplete",
    404: "link_invalid",
    409: "email_taken",
    410: "link_expired",
    429: "try_again",
    500: "try_again",
    503: "try_again",
}
"""The name of the page for the status of an error."""
OTHER_ERROR = "not_accepted"
"""The page for the other errors: the body is too large, too slow or encoded."""
LOGIN_PATH = "/api/auth/oauth/"
"""The start of the paths on which a person logs in through a provider, without a mailed link."""


def message_schema(text: str) -> object:
    """Return the schema of a JSON response that has only a message."""
    return object_of(message=string(example=text))


def result_responses(message: str) -> dict[int, Media]:
    """Return the response of ``result`` with ``message``, for the OpenAPI document."""
    return {200: Media(("text/html",), _PAGE, message_schema(message))}


def link_token(request: web.Request) -> str:
    """Return the token in the URL of a link. Raise ``InvalidInput`` if there is none."""
    token = LINK_QUERY.read(request)["token"]
    if token is None:
        raise InvalidInput({"token": [BLANK]})
    return str(token)


@functools.cache
def templates() -> Environment:
    """Return the templates of all pages. A template is compiled at its first use."""
    return page_templates(FOLDER)


@functools.cache
def languages() -> tuple[str, ...]:
    """Return the languages of the pages. The default language is the first."""
    names = {path.name for path in FOLDER.iterdir() if path.is_dir()}
    return (DEFAULT_LANGUAGE, *sorted(names - {DEFAULT_LANGUAGE}))


def render_samples() -> dict[tuple[str, str], str]:
    """Return each page in each language, by language and name, with the values of ``SAMPLES``.

    Raise ``jinja2.TemplateError`` if a language lacks a page, or if a page has an error.
    """
    return {
        (language, name): _render(language, name, values)
        for language in languages()
        for name, values in SAMPLES.items()
    }


def _render(language: str, name: str, values: Mapping[str, object]) -> str:
    return templates().get_template(f"{language}/{name}.html").render(values, language=language)


def page(request: web.Request, name: str, *, status: int = 200, **values: object) -> web.Response:
    """Return the page ``name`` of ``SAMPLES`` with ``values``, in the language of the browser."""
    language = language_of(request, languages())
    response = page_response(_render(language, name, values), status=status, private=True)
    response.headers[hdrs.CONTENT_LANGUAGE] = language
    response.headers[hdrs.VARY] = hdrs.ACCEPT_LANGUAGE
    return response


def result(request: web.Request, name: str, message: str) -> web.StreamResponse:
    """Return the result of a link: the page ``name`` for a person, ``message`` for a program."""
    return page(request, name) if is_form(request) else json_response({"message": message})


def error_result(request: web.Request, name: str, error: ApiError) -> web.StreamResponse:
    """Return the page ``name`` for a person. Raise ``error`` for a program."""
    if not is_form(request):
        raise error
    strict = request.app[SETTINGS].realworld_strict
    return page(request, name, status=status_of(error, strict=strict))


@web.middleware
def error_page_middleware(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Show the errors of a route with pages as a page to a person. A program gets JSON.

    The errors of the middlewares and of the server are included: a full queue, a lost database, an
    unexpected exception.
    """
    operation = operation_of(request)
    if operation is None or not operation.pages:
        return handler(request)
    return _respond(request, handler)


async def _respond(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if not isinstance(response, JsonResponse) or response.status < HTTPStatus.BAD_REQUEST:
        return response
    is_post = request.method == hdrs.METH_POST
    if not (is_form(request) if is_post else prefers_html(request)):
        return response
    name = _error_page(request.path, response.status)
    minutes = minutes_to_wait(response.headers)
    shown = page(request, name, status=response.status, minutes=minutes)
    # Retry-After, and the headers of the middlewares.
    shown.headers.extend(response.headers)
    if response.is_last:
        shown.force_close()
    return shown


def _error_page(path: str, status: int) -> str:
    """Return the name of the page for an error of a route with pages."""
    if path.startswith(LOGIN_PATH):
        is_temporary = ERROR_PAGES.get(status) == "try_again"
        return "login_unavailable" if is_temporary else "login_failed"
    return ERROR_PAGES.get(status, OTHER_ERROR)


def minutes_to_wait(headers: Mapping[str, str]) -> int:
    """Return the time in ``Retry-After`` in minutes, rounded up, or 0 without that header."""
    return math.ceil(int(headers.get(hdrs.RETRY_AFTER, 0)) / 60)
