"""Favorite an article as the current user, and undo it."""

from aiohttp import web

import sql
from service.conduit.articles import ARTICLE, SLUG, respond_with_article
from service.conduit.foreign_keys import map_foreign_key_errors
from service.database.pool import DATABASE
from service.http.errors import NotFound
from service.http.parameters import path_text
from service.http.routes import RouteTableDef

routes = RouteTableDef(tag="Articles")


@routes.post(
    "/api/articles/{slug}/favorite",
    operation_id="CreateArticleFavorite",
    parameters=SLUG,
    responses={200: ARTICLE},
    errors=(NotFound("article"),),
)
async def favorite(request: web.Request) -> web.StreamResponse:
    """Favorite an article. A repeated request has no effect."""
    return await _set_favorite(request, sql.favorites.add)


@routes.delete(
    "/api/articles/{slug}/favorite",
    operation_id="DeleteArticleFavorite",
    parameters=SLUG,
    responses={200: ARTICLE},
    errors=(NotFound("article"),),
)
async def unfavorite(request: web.Request) -> web.StreamResponse:
    """Unfavorite an article."""
    return await _set_favorite(request, sql.favorites.remove)


async def _set_favorite(request: web.Request, query: sql.AnyQuery) -> web.StreamResponse:
    """Run one query of ``sql/conduit/favorites.sql`` and respond with the article."""
    slug = path_text(request, "slug")
    article_id = await map_foreign_key_errors(
        query(request.app[DATABASE], slug=slug, user_id=request["user"].id)
    )
    if article_id is None:
        raise NotFound("article")
    return await respond_with_article(request, slug)
