"""Profiles, and who follows whom."""

from typing import Any

from aiohttp import web

import sql
from service.accounts import fields
from service.accounts.responses import BIO, IMAGE
from service.conduit.foreign_keys import map_foreign_key_errors
from service.database.pool import DATABASE
from service.http.errors import SETTINGS, InvalidInput, NotFound
from service.http.openapi.schemas import ByDialect, Named, boolean, nullable, object_of, string
from service.http.parameters import path_text
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef

routes = RouteTableDef()

CLOSED = "-"
"""The author of what a closed account wrote, until it is removed. No username is that short."""

PROFILE = Named(
    "Profile",
    object_of(
        username={
            **string(example="jake"),
            "description": f"`{CLOSED}`, which nobody can register, where the account was deleted.",
        },
        bio=ByDialect(default=BIO, strict=nullable(BIO)),
        image=IMAGE,
        following=boolean(example=False),
    ),
)
ANSWERS = {200: object_of(profile=PROFILE)}
USERNAME = {"username": string(example="jake")}


@routes.get(
    "/api/profiles/{username}",
    auth=Auth.OPTIONAL,
    parameters=USERNAME,
    answers=ANSWERS,
    errors=(404,),
)
async def show(request: web.Request) -> web.StreamResponse:
    """The profile of ``username``; ``following`` is that of the one who asks."""
    return await _profile(request, sql.profiles.find)


@routes.post("/api/profiles/{username}/follow", parameters=USERNAME, answers=ANSWERS, errors=(404,))
async def follow(request: web.Request) -> web.StreamResponse:
    """Follow ``username``; following twice is following."""
    if fields.uniqueness_key(path_text(request, "username")) == fields.uniqueness_key(
        request["user"].username
    ):
        raise InvalidInput({"profile": ["can't be your own"]})
    return await _profile(request, sql.profiles.follow)


@routes.delete(
    "/api/profiles/{username}/follow", parameters=USERNAME, answers=ANSWERS, errors=(404,)
)
async def unfollow(request: web.Request) -> web.StreamResponse:
    """Follow ``username`` no more."""
    return await _profile(request, sql.profiles.unfollow)


async def _profile(request: web.Request, query: sql.Query) -> web.StreamResponse:
    """The row of one statement of ``sql/conduit/profiles.sql`` as the answer."""
    row = await map_foreign_key_errors(
        query(
            request.app[DATABASE],
            username_key=fields.uniqueness_key(path_text(request, "username")),
            viewer_id=viewer_id(request),
        )
    )
    if row is None:
        raise NotFound("profile")
    return json_response({"profile": profile(row, strict=request.app[SETTINGS].realworld_strict)})


def viewer_id(request: web.Request) -> Any:
    """The id of the one who asks, or ``None`` for nobody."""
    user = request["user"]
    return user.id if user is not None else None


def profile(row: Any, *, strict: bool, prefix: str = "") -> dict[str, Any]:
    """A profile as the API shows it, from the columns of ``row`` that begin with ``prefix``."""
    username, bio = row[f"{prefix}username"], row[f"{prefix}bio"]
    return {
        "username": username if username is not None else CLOSED,
        "bio": bio if strict else bio or "",
        "image": row[f"{prefix}image"],
        # Follows of a closed account go in batches, too.
        "following": username is not None and row[f"{prefix}following"],
    }
