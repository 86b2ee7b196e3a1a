"""Favorite an article as the current user, and undo it."""

from aiohttp import web

import sql
from service.conduit.articles import ARTICLE, SLUG, article_response
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
    return await _set_favorite(request, is_favorite=True)


@routes.delete(
    "/api/articles/{slug}/favorite",
    operation_id="DeleteArticleFavorite",
    parameters=SLUG,
    responses={200: ARTICLE},
    errors=(NotFound("article"),),
)
async def unfavorite(request: web.Request) -> web.StreamResponse:
    """Unfavorite an article."""
    return await _set_favorite(request, is_favorite=False)


async def _set_favorite(request: web.Request, *, is_favorite: bool) -> web.StreamResponse:
    """Add or remove the favorite, and respond with the article."""
    row = await map_foreign_key_errors(
        sql.favorites.set(
            request.app[DATABASE],
            slug=path_text(request, "slug"),
            user_id=request["user"].id,
            is_favorite=is_favorite,
        )
    )
    if row is None:
        raise NotFound("article")
    return article_response(request, row)
