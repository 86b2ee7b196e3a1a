"""What a write meets when the user or the article it is about was deleted while it ran."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from service.http.errors import ApiError, NotFound, Unauthorized

_Result = TypeVar("_Result")


def user_gone() -> ApiError:
    """The refusal of a user whose account was deleted while the request ran."""
    return Unauthorized("token", "has been revoked", code="token_revoked")


# The foreign key that a row to be written would break, and what the client is told.
_ANSWERS: dict[str, Callable[[], ApiError]] = {
    "articles_author_fk": user_gone,
    "favorites_user_fk": user_gone,
    "follows_follower_fk": user_gone,
    "favorites_article_fk": lambda: NotFound("article"),
    "follows_followed_fk": lambda: NotFound("profile"),
}


async def unless_gone(writing: Awaitable[_Result]) -> _Result:
    """The result of ``writing``. Raises ``Unauthorized`` or ``NotFound`` where what it needs went.

    A look beforehand cannot tell: the deletion may be committed right after it.
    """
    try:
        return await writing
    except asyncpg.ForeignKeyViolationError as violation:
        if answer := _ANSWERS.get(violation.constraint_name or ""):
            raise answer() from None
        raise
