"""Build the JSON of a user, alone or with the tokens of a new session."""

from typing import Any

from aiohttp import web

from service.accounts import fields
from service.accounts.sessions.access_tokens import ACCESS_TOKEN, AccessToken, AccessTokens
from service.accounts.sessions.sessions import EXPIRES_IN, REFRESH_TOKEN, NewSession
from service.accounts.user import User
from service.http.openapi.schemas import ByDialect, Named, nullable, object_of, string
from service.http.responses import json_response
from service.settings.settings import Settings

BIO = string(example="I work at statefarm")
IMAGE = ByDialect(
    default=nullable(string(example=fields.image.example, form="uri")),
    strict=nullable(string(example=fields.image.example)),
)
USER = Named(
    "User",
    object_of(
        email=string(example="jake@jake.jake", form="email"),
        token=ACCESS_TOKEN,
        username=string(example="jake"),
        bio=ByDialect(default=BIO, strict=nullable(BIO)),
        image=IMAGE,
    ),
)
CURRENT_USER = object_of(user=USER)
LOGIN_RESPONSE = object_of(user=USER, refresh_token=REFRESH_TOKEN, expires_in=EXPIRES_IN)


def current_user_response(
    user: User, tokens: AccessTokens, settings: Settings
) -> web.StreamResponse:
    """Return the response with ``user`` and a new access token."""
    access = tokens.issue(user.id, user.session_id, user.session_expires_at, user.roles)
    profile = (user.email, user.username, user.bio, user.image)
    return json_response({"user": _user_json(*profile, access=access, settings=settings)})


def login_response(
    row: Any, session: NewSession, tokens: AccessTokens, settings: Settings, *, status: int = 200
) -> web.StreamResponse:
    """Return the response to a registration or a login.

    It contains the user in ``row`` and the tokens of ``session``.
    """
    access = tokens.issue(row["id"], session.id, session.expires_at, session.roles)
    profile = (row[name] for name in ("email", "username", "bio", "image"))
    body = {
        "user": _user_json(*profile, access=access, settings=settings),
        "refresh_token": session.refresh_token,
        "expires_in": access.expires_in,
    }
    return json_response(body, status=status)


def _user_json(
    email: str,
    username: str,
    bio: str | None,
    image: str | None,
    *,
    access: AccessToken,
    settings: Settings,
) -> dict[str, Any]:
    return {
        "email": email,
        "token": access.token,
        "username": username,
        "bio": bio if bio or settings.realworld_strict else "",
        "image": image,
    }
