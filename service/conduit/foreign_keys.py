"""What a write meets when the user or the article it is about was deleted while it ran."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from service.accounts.sessions.authentication import revoked_token
from service.http.errors import ApiError, NotFound

_Result = TypeVar("_Result")


# The foreign key that a row to be written would break, and what the client is told.
_ANSWERS: dict[str, Callable[[], ApiError]] = {
    "articles_author_fk": revoked_token,
    "favorites_user_fk": revoked_token,
    "follows_follower_fk": revoked_token,
    "favorites_article_fk": lambda: NotFound("article"),
    "follows_followed_fk": lambda: NotFound("profile"),
}


async def map_foreign_key_errors(writing: Awaitable[_Result]) -> _Result:
    """The result of ``writing``. Raises ``Unauthorized`` or ``NotFound`` where what it needs went.

    A look beforehand cannot tell: the deletion may be committed right after it.
    """
    try:
        return await writing
    except asyncpg.ForeignKeyViolationError as violation:
        if answer := _ANSWERS.get(violation.constraint_name or ""):
            raise answer() from None
        raise
