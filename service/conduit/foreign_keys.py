"""Errors of a write whose user or article was deleted while the write ran."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from service.accounts.sessions.authentication import revoked_token
from service.http.errors import ApiError, NotFound

_Result = TypeVar("_Result")


# The error for the client, by the foreign key that the write violates.
_ERRORS: dict[str, Callable[[], ApiError]] = {
    "articles_author_id_fkey": revoked_token,
    "favorites_user_id_fkey": revoked_token,
    "follows_follower_id_fkey": revoked_token,
    "favorites_article_id_fkey": lambda: NotFound("article"),
    "follows_followed_id_fkey": lambda: NotFound("profile"),
}


async def map_foreign_key_errors(write: Awaitable[_Result]) -> _Result:
    """Return the result of ``write``.

    Raise ``Unauthorized`` or ``NotFound`` if a row that it references was deleted. A check before
    the write cannot detect this: the deletion may be committed right after the check.
    """
    try:
        return await write
    except asyncpg.ForeignKeyViolationError as violation:
        if make_error := _ERRORS.get(violation.constraint_name or ""):
            raise make_error() from None
        raise
