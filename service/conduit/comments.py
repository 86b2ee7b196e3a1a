"""Comments on an article."""

from typing import Any

from aiohttp import web

import sql
from service.conduit.articles import SLUG
from service.conduit.profiles import PROFILE, author_json, viewer_id
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.errors import Forbidden, NotFound
from service.http.openapi.schemas import TIME, Named, array_of, integer, object_of, string
from service.http.parameters import LARGEST, Number, QueryString, path_text
from service.http.responses import MAX_PAGE_BYTES, json_response, render_page, timestamp_of
from service.http.routes import Auth, RouteTableDef
from service.http.validation import Text, required, wrapped

routes = RouteTableDef()

ID = integer(example=1, lowest=1, highest=LARGEST)
COMMENT = Named(
    "Comment",
    object_of(
        id=ID,
        createdAt=TIME,
        updatedAt=TIME,
        body=string(example="Thank you!"),
        author=PROFILE,
    ),
)

# The RealWorld specification returns all comments in one response. Paging begins after 1000.
PAGE = QueryString(limit=(Number(1, 1000), 1000), offset=(Number(0, LARGEST), 0))


@routes.get(
    "/api/articles/{slug}/comments",
    operation_id="GetArticleComments",
    auth=Auth.OPTIONAL,
    query=PAGE,
    parameters=SLUG,
    responses={200: object_of(comments=array_of(COMMENT))},
    errors=(NotFound("article"),),
)
async def list_comments(request: web.Request) -> web.StreamResponse:
    """List the comments on an article, newest first.

    A page ends after ``limit`` comments or about 2 MiB. The next page begins at ``offset`` plus the
    number of comments in this page. A page without comments is the end of the list.
    """
    page = PAGE.read(request)
    rows = await sql.comments.list(
        request.app[DATABASE],
        slug=path_text(request, "slug"),
        viewer_id=viewer_id(request),
        max_bytes=MAX_PAGE_BYTES,
        **page,
    )
    if not rows:
        raise NotFound("article")
    strict = request.app[SETTINGS].realworld_strict
    comments = (comment_json(row, strict=strict) for row in rows if row["id"] is not None)
    return json_response({"comments": render_page(comments)})


NEW_COMMENT = wrapped("comment", {required("body"): Text(longest=10_000, example="Thank you!")})


@routes.post(
    "/api/articles/{slug}/comments",
    operation_id="CreateArticleComment",
    body=NEW_COMMENT,
    parameters=SLUG,
    responses={201: object_of(comment=COMMENT)},
    errors=(NotFound("article"),),
)
async def create_comment(request: web.Request) -> web.StreamResponse:
    """Create a comment on an article. Respond with 201."""
    given = (await read_body(request))["comment"]
    row = await sql.comments.create(
        request.app[DATABASE],
        slug=path_text(request, "slug"),
        author_id=request["user"].id,
        body=given["body"],
    )
    if row is None:
        raise NotFound("article")
    strict = request.app[SETTINGS].realworld_strict
    return json_response({"comment": comment_json(row, strict=strict)}, status=201)


@routes.delete(
    "/api/articles/{slug}/comments/{id}",
    operation_id="DeleteArticleComment",
    parameters={**SLUG, "id": ID},
    responses={204: None},
    errors=(Forbidden("comment"), NotFound("article"), NotFound("comment")),
)
async def delete_comment(request: web.Request) -> web.StreamResponse:
    """Delete a comment of the current user. Respond with 204."""
    row = await sql.comments.find_owner(
        request.app[DATABASE], slug=path_text(request, "slug"), comment_id=_comment_id(request)
    )
    if row is None:
        raise NotFound("article")
    if row["author_id"] is None:
        raise NotFound("comment")
    if row["author_id"] != request["user"].id:
        raise Forbidden("comment")
    await sql.comments.delete(request.app[DATABASE], comment_id=row["id"])
    return web.Response(status=204)


def _comment_id(request: web.Request) -> int | None:
    """Return the id in the path, or ``None``, which no comment has, if it is not a valid id."""
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST):
        return None
    return int(text)


def comment_json(row: Any, *, strict: bool) -> dict[str, Any]:
    """Return a comment as JSON of the API."""
    return {
        "id": row["id"],
        "createdAt": timestamp_of(row["created_at"]),
        "updatedAt": timestamp_of(row["updated_at"]),
        "body": row["body"],
        "author": author_json(row, strict=strict),
    }
