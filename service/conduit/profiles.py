"""Profiles, and the follows between users."""

from typing import Any

from aiohttp import web

import sql
from service.accounts import fields
from service.accounts.responses import BIO, IMAGE
from service.conduit.foreign_keys import map_foreign_key_errors
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.errors import InvalidInput, NotFound
from service.http.openapi.schemas import ByDialect, Named, boolean, nullable, object_of, string
from service.http.parameters import path_text
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef

routes = RouteTableDef()

CLOSED_USERNAME = "-"
"""The username that the content of a closed account shows until the content is removed.

An account cannot have it: a username is longer.
"""

PROFILE = Named(
    "Profile",
    object_of(
        username={
            **string(example="jake"),
            "description": (
                f"`{CLOSED_USERNAME}` if the account was deleted. No account has this username."
            ),
        },
        bio=ByDialect(default=BIO, strict=nullable(BIO)),
        image=IMAGE,
        following=boolean(example=False),
    ),
)
RESPONSES = {200: object_of(profile=PROFILE)}
USERNAME = {"username": string(example="anna")}  # This user exists in the example data.
OWN_PROFILE = {"profile": ["can't be your own"]}


@routes.get(
    "/api/profiles/{username}",
    operation_id="GetProfileByUsername",
    auth=Auth.OPTIONAL,
    parameters=USERNAME,
    responses=RESPONSES,
    errors=(NotFound("profile"),),
)
async def get_profile(request: web.Request) -> web.StreamResponse:
    """Get a profile.

    ``following`` is true if the current user follows ``username``.
    """
    return await _profile(request, sql.profiles.find)


@routes.post(
    "/api/profiles/{username}/follow",
    operation_id="FollowUserByUsername",
    parameters=USERNAME,
    responses=RESPONSES,
    errors=(InvalidInput(OWN_PROFILE), NotFound("profile")),
)
async def follow(request: web.Request) -> web.StreamResponse:
    """Follow a user. A repeated request has no effect."""
    if fields.uniqueness_key(path_text(request, "username")) == fields.uniqueness_key(
        request["user"].username
    ):
        raise InvalidInput(OWN_PROFILE)
    return await _profile(request, sql.profiles.follow)


@routes.delete(
    "/api/profiles/{username}/follow",
    operation_id="UnfollowUserByUsername",
    parameters=USERNAME,
    responses=RESPONSES,
    errors=(NotFound("profile"),),
)
async def unfollow(request: web.Request) -> web.StreamResponse:
    """Unfollow a user."""
    return await _profile(request, sql.profiles.unfollow)


async def _profile(request: web.Request, query: sql.AnyQuery) -> web.StreamResponse:
    """Run one query of ``sql/conduit/profiles.sql`` and respond with its row.

    Raise ``NotFound`` if no user has the username in the path.
    """
    row = await map_foreign_key_errors(
        query(
            request.app[DATABASE],
            username_key=fields.uniqueness_key(path_text(request, "username")),
            viewer_id=viewer_id(request),
        )
    )
    if row is None:
        raise NotFound("profile")
    strict = request.app[SETTINGS].realworld_strict
    profile = _profile_json(row["username"], row["bio"], row["image"], row["following"], strict)
    return json_response({"profile": profile})


def viewer_id(request: web.Request) -> Any:
    """Return the id of the current user, or ``None`` if the request is anonymous."""
    user = request["user"]
    return user.id if user is not None else None


def author_json(row: Any, *, strict: bool) -> dict[str, Any]:
    """Return the profile of an author as JSON of the API."""
    return _profile_json(
        row["author_username"],
        row["author_bio"],
        row["author_image"],
        row["author_following"],
        strict,
    )


def _profile_json(
    username: str | None, bio: str | None, image: str | None, following: bool, strict: bool
) -> dict[str, Any]:
    return {
        "username": username if username is not None else CLOSED_USERNAME,
        "bio": bio if strict else bio or "",
        "image": image,
        # The follows of a closed account are removed in batches: the row may still exist.
        "following": username is not None and following,
    }
