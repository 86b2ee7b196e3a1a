"""Lists of articles: newest first, filtered, paged, with an exact count."""

from typing import Any

from aiohttp import web

import sql
from service.accounts import fields
from service.conduit.articles import ARTICLE_FIELDS, article_json
from service.conduit.profiles import viewer_id
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.openapi.schemas import Named, array_of, integer, object_of
from service.http.parameters import LARGEST, Number, QueryString, filter_text
from service.http.responses import json_response, render_page
from service.http.routes import Auth, RouteTableDef

routes = RouteTableDef(tag="Articles")

ARTICLES = object_of(
    articles=array_of(Named("ArticleInList", object_of(**ARTICLE_FIELDS))),
    articlesCount=integer(example=1, lowest=0),
)

PAGE = {"limit": (Number(1, 100), 20), "offset": (Number(0, LARGEST), 0)}

FILTERS = QueryString(
    tag=(filter_text, None), author=(filter_text, None), favorited=(filter_text, None), **PAGE
)

# Each combination of filters has its own statement, so that its plan fits every call.
STATEMENTS: dict[tuple[str, ...], sql.AnyQuery] = {
    (): sql.listing.list_all,
    ("tag",): sql.listing.list_by_tag,
    ("username_key",): sql.listing.list_by_author,
    ("favorited_key",): sql.listing.list_by_favorited,
    ("tag", "username_key"): sql.listing_combinations.list_by_tag_and_author,
    ("tag", "favorited_key"): sql.listing_combinations.list_by_tag_and_favorited,
    ("username_key", "favorited_key"): sql.listing_combinations.list_by_author_and_favorited,
    (
        "tag",
        "username_key",
        "favorited_key",
    ): sql.listing_combinations.list_by_tag_author_favorited,
}


@routes.get(
    "/api/articles",
    operation_id="GetArticles",
    auth=Auth.OPTIONAL,
    query=FILTERS,
    responses={200: ARTICLES},
)
async def list_articles(request: web.Request) -> web.StreamResponse:
    """List articles, newest first.

    ``tag``, ``author`` and ``favorited`` (the username of a reader) filter the list, alone or
    combined. Without a filter all articles are listed.

    A page ends after ``limit`` articles or about 2 MiB. The next page begins at ``offset`` plus the
    number of articles in this page. ``articlesCount`` is the number of articles in all pages.
    """
    given = FILTERS.read(request)
    wanted = {
        "tag": given["tag"],
        "username_key": fields.uniqueness_key(given["author"]) if given["author"] else None,
        "favorited_key": fields.uniqueness_key(given["favorited"]) if given["favorited"] else None,
    }
    filters = {name: value for name, value in wanted.items() if value is not None}
    return await _page(request, STATEMENTS[tuple(filters)], given, **filters)


FEED = QueryString(**PAGE)


@routes.get(
    "/api/articles/feed", operation_id="GetArticlesFeed", query=FEED, responses={200: ARTICLES}
)
async def list_feed(request: web.Request) -> web.StreamResponse:
    """List the articles of the users that the current user follows, newest first.

    Paging works as in the list of all articles.
    """
    return await _page(request, sql.listing.list_feed, FEED.read(request))


async def _page(
    request: web.Request, query: sql.AnyQuery, given: dict[str, Any], **filters: Any
) -> web.StreamResponse:
    """Respond with one page.

    The first row always exists and has the count. Its slug is null if the page is empty.
    """
    rows = await query(
        request.app[DATABASE],
        viewer_id=viewer_id(request),
        limit=given["limit"],
        offset=given["offset"],
        **filters,
    )
    strict = request.app[SETTINGS].realworld_strict
    articles = (article_json(row, strict=strict) for row in rows if row["slug"] is not None)
    return json_response(
        {"articles": render_page(articles), "articlesCount": rows[0]["articles_count"]}
    )
