"""One article: create, read, update and delete it."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import orjson
import voluptuous as vol
from aiohttp import web
from slugify import slugify

import sql
from service.accounts.sessions.authentication import revoked_token
from service.conduit.foreign_keys import map_foreign_key_errors
from service.conduit.profiles import PROFILE, author_json, viewer_id
from service.conduit.tags import TAG_LIST
from service.database.pool import DATABASE, Database
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.errors import BLANK, Forbidden, NotFound
from service.http.openapi.schemas import (
    TIME,
    Named,
    array_of,
    boolean,
    integer,
    json_schema,
    object_of,
    string,
)
from service.http.parameters import path_text
from service.http.responses import json_response, timestamp_of
from service.http.routes import Auth, RouteTableDef
from service.http.validation import Text, required, something_to_change, wrapped

routes = RouteTableDef()

MAX_SLUG_LENGTH = 100
MAX_TAGS = 50
MAX_TAG_LENGTH = 50
# Bytes of JSON. Every response with the article contains them, whatever MAX_BODY_SIZE is.
MAX_BODY_BYTES = 1024 * 1024
SLUG_ATTEMPTS = 5


def _body_size(value: str) -> str:
    if len(orjson.dumps(value)) - len('""') > MAX_BODY_BYTES:
        raise vol.Invalid(f"is too long (maximum is {MAX_BODY_BYTES} bytes of JSON)")
    return value


title = Text(longest=255, example="How to train your dragon")
description = Text(longest=2000, example="Ever wonder how?")
body = Text(_body_size, longest=MAX_BODY_BYTES, example="It takes a Jacobian")

TAGS = array_of(string(example="dragons"))
ARTICLE_FIELDS = {
    "slug": string(example="how-to-train-your-dragon"),
    "title": string(example=title.example),
    "description": string(example=description.example),
    "tagList": TAGS,
    "createdAt": TIME,
    "updatedAt": TIME,
    "favorited": boolean(example=False),
    "favoritesCount": integer(example=0, lowest=0),
    "author": PROFILE,
}
ARTICLE = object_of(
    article=Named("Article", object_of(**ARTICLE_FIELDS, body=string(example=body.example)))
)
SLUG = {"slug": string(example="a-loaf-for-beginners")}  # This article exists in the example data.


@json_schema({**TAGS, "maxItems": MAX_TAGS})
def tag_list(value: Any) -> list[str]:
    """Return the stripped tags in their order, without duplicates.

    Leave out blank tags, because text boxes send them. Raise ``vol.Invalid`` if ``value`` is not a
    list of strings, has too many tags or has a tag that is too long.
    """
    if value is None:
        raise vol.Invalid(BLANK)
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise vol.Invalid("must be a list of strings")
    tags = list(dict.fromkeys(tag.strip() for tag in value if tag.strip()))
    if len(tags) > MAX_TAGS:
        raise vol.Invalid(f"is too long (maximum is {MAX_TAGS} tags)")
    if any(len(tag) > MAX_TAG_LENGTH for tag in tags):
        raise vol.Invalid(f"has a tag that is too long (maximum is {MAX_TAG_LENGTH} characters)")
    return tags


NEW_ARTICLE = wrapped(
    "article",
    {
        required("title"): title,
        required("description"): description,
        required("body"): body,
        "tagList": tag_list,
    },
)


@routes.post(
    "/api/articles", operation_id="CreateArticle", body=NEW_ARTICLE, responses={201: ARTICLE}
)
async def create_article(request: web.Request) -> web.StreamResponse:
    """Create an article. Respond with 201."""
    given = (await read_body(request))["article"]
    row = await _retry_with_free_slug(
        sql.articles.create,
        request.app[DATABASE],
        author_id=request["user"].id,
        title=given["title"],
        description=given["description"],
        body=given["body"],
        tag_list=given.get("tagList", []),
        slug=slug_of(given["title"]),
    )
    if row is None:
        raise revoked_token()
    request.app[TAG_LIST].forget()
    return article_response(request, row, status=201)


@routes.get(
    "/api/articles/{slug}",
    operation_id="GetArticle",
    auth=Auth.OPTIONAL,
    parameters=SLUG,
    responses={200: ARTICLE},
    errors=(NotFound("article"),),
)
async def get_article(request: web.Request) -> web.StreamResponse:
    """Get an article.

    ``slug`` is the current slug of the article or any earlier one.
    """
    return await respond_with_article(request, path_text(request, "slug"))


CHANGED_ARTICLE = wrapped(
    "article",
    {"title": title, "description": description, "body": body, "tagList": tag_list},
    something_to_change,
)


@routes.put(
    "/api/articles/{slug}",
    operation_id="UpdateArticle",
    body=CHANGED_ARTICLE,
    parameters=SLUG,
    responses={200: ARTICLE},
    errors=(Forbidden("article"), NotFound("article")),
)
async def update_article(request: web.Request) -> web.StreamResponse:
    """Update an article. Change only the given fields.

    Without ``tagList`` the tags stay; ``[]`` removes them.
    """
    given = (await read_body(request))["article"]
    slug = await _retry_with_free_slug(
        _change,
        request.app[DATABASE],
        request=request,
        title=given.get("title"),
        description=given.get("description"),
        body=given.get("body"),
        tag_list=given.get("tagList"),
        slug=slug_of(given["title"]) if "title" in given else None,
    )
    request.app[TAG_LIST].forget()
    return await respond_with_article(request, slug)


async def _change(database: Database, *, request: web.Request, **fields: Any) -> str:
    """Update the article in the path and return its slug. A row lock serializes the edits."""

    async def change(connection: sql.Connection) -> str:
        row = await sql.articles.lock_by_slug(connection, slug=path_text(request, "slug"))
        article_id = _require_author(row, request)
        return str(await sql.articles.update(connection, article_id=article_id, **fields))

    return await database.transact(change)


@routes.delete(
    "/api/articles/{slug}",
    operation_id="DeleteArticle",
    parameters=SLUG,
    responses={204: None},
    errors=(Forbidden("article"), NotFound("article")),
)
async def delete_article(request: web.Request) -> web.StreamResponse:
    """Delete an article with its comments and favourites. Respond with 204."""
    article_id = await _require_own_article(request)
    # Each call is one short transaction: even an article with very many favourites does not block
    # other requests.
    while not await sql.articles.delete(request.app[DATABASE], article_id=article_id):
        pass
    request.app[TAG_LIST].forget()
    return web.Response(status=204)


async def respond_with_article(request: web.Request, slug: str) -> web.StreamResponse:
    """Respond with the article as the current user sees it.

    ``slug`` is the current slug of the article or any earlier one. Raise ``NotFound`` if no article
    has it.
    """
    row = await sql.articles.find_by_slug(
        request.app[DATABASE], slug=slug, viewer_id=viewer_id(request)
    )
    if row is None:
        raise NotFound("article")
    return article_response(request, row)


async def _require_own_article(request: web.Request) -> int:
    """Return the id of the article in the path.

    Raise ``NotFound`` if there is no such article, ``Forbidden`` if its author is another user.
    """
    row = await sql.articles.find_owner(request.app[DATABASE], slug=path_text(request, "slug"))
    return _require_author(row, request)


def _require_author(row: Any, request: web.Request) -> int:
    """Return the id of the article in ``row``. Raise as ``_require_own_article`` does."""
    if row is None:
        raise NotFound("article")
    if row["author_id"] != request["user"].id:
        raise Forbidden("article")
    return int(row["id"])


async def _retry_with_free_slug(
    query: Callable[..., Awaitable[Any]], database: Database, **arguments: Any
) -> Any:
    """Run ``query``, which takes a slug. Retry with a random suffix if the slug is a duplicate.

    The numbered slug is a duplicate if a user chose it as a title before. Raise
    ``UniqueViolationError`` if attempt number ``SLUG_ATTEMPTS`` fails too.
    """
    for _ in range(SLUG_ATTEMPTS - 1):
        try:
            return await map_foreign_key_errors(query(database, **arguments))
        except asyncpg.UniqueViolationError:
            arguments["slug"] = f"{arguments['slug']}-{secrets.token_hex(4)}"
    return await map_foreign_key_errors(query(database, **arguments))


def slug_of(text: str) -> str:
    """Return a readable, non-empty slug of at most ``MAX_SLUG_LENGTH`` characters.

    ``text`` is a title in any script. A title that has only symbols becomes ``article``, which is
    numbered like any other slug. ``feed`` is replaced, because its URL is that of the feed.
    """
    slug = slugify(text, max_length=MAX_SLUG_LENGTH, word_boundary=True) or "article"
    return "feed-article" if slug == "feed" else slug


def article_json(row: Any, *, strict: bool) -> dict[str, Any]:
    """Return an article as JSON of the API, with ``body`` if the row has one."""
    data = {
        "slug": row["slug"],
        "title": row["title"],
        "description": row["description"],
        "body": row.get("body"),
        "tagList": row["tag_list"],
        "createdAt": timestamp_of(row["created_at"]),
        "updatedAt": timestamp_of(row["updated_at"]),
        "favorited": row["favorited"],
        "favoritesCount": row["favorites_count"],
        "author": author_json(row, strict=strict),
    }
    if data["body"] is None:
        del data["body"]
    return data


def article_response(request: web.Request, row: Any, *, status: int = 200) -> web.StreamResponse:
    """Return the response with the article in ``row``."""
    strict = request.app[SETTINGS].realworld_strict
    return json_response({"article": article_json(row, strict=strict)}, status=status)
