"""Whose token is it: from an access token to ``request["user"]``."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiohttp import web

import sql
from service.accounts.tokens import AccessTokens
from service.database.pool import Database
from service.http.errors import Unauthorized


@dataclass(frozen=True, slots=True)
class User:
    """A user as handlers see one: never with the password's hash."""

    id: UUID
    email: str
    username: str
    bio: str | None
    image: str | None

    @classmethod
    def of(cls, row: Any) -> "User":
        """The user in a row that has these columns."""
        return cls(row["id"], row["email"], row["username"], row["bio"], row["image"])


class Identity:
    """Finds the user of a token."""

    def __init__(self, database: Database, tokens: AccessTokens) -> None:
        self._database = database
        self._tokens = tokens

    async def identify(self, token: str) -> User:
        """The user whom ``token`` was issued to.

        Raises ``Unauthorized`` when the token is invalid or expired, or the account is gone.
        """
        claims = self._tokens.verify(token)
        row = await sql.users.find_by_id(self._database, id=claims.user_id)
        if row is None:
            raise Unauthorized("token", "has been revoked", code="token_revoked")
        return User.of(row)


TOKENS = web.AppKey("tokens", AccessTokens)
