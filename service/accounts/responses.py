"""Build the JSON of a user, alone or with the tokens of a new session."""

from typing import Any

from aiohttp import web

from service.accounts import fields
from service.accounts.sessions.access_tokens import ACCESS_TOKEN, AccessToken
from service.accounts.sessions.authentication import TOKENS
from service.accounts.sessions.sessions import EXPIRES_IN, REFRESH_TOKEN, NewSession
from service.accounts.user import User
from service.http.app_keys import SETTINGS
from service.http.openapi.schemas import ByDialect, Named, nullable, object_of, string
from service.http.responses import json_response

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


def login_response(
    request: web.Request, row: Any, session: NewSession, *, status: int = 200
) -> web.StreamResponse:
    """Return the response to a registration or a login.

    It contains the user in ``row`` and the tokens of ``session``.
    """
    user = User.of(row, session.id, session.expires_at, session.use)
    access = _issue(request, user)
    body = {
        "user": user_json(request, user, access),
        "refresh_token": session.refresh_token,
        "expires_in": access.expires_in,
    }
    return json_response(body, status=status)


def user_json(
    request: web.Request, user: User, access: AccessToken | None = None
) -> dict[str, Any]:
    """Return the JSON of ``user``, with the token ``access`` or a new access token."""
    if access is None:
        access = _issue(request, user)
    return {
        "email": user.email,
        "token": access.token,
        "username": user.username,
        "bio": user.bio if user.bio or request.app[SETTINGS].realworld_strict else "",
        "image": user.image,
    }


def _issue(request: web.Request, user: User) -> AccessToken:
    return request.app[TOKENS].issue(user.id, user.session_id, user.session_expires_at)
