"""Whose token is it: from an access token to ``request["user"]``."""

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from aiohttp import web

import sql
from service.accounts.memory import Memory
from service.accounts.tokens import AccessTokens, Claims
from service.database.notifications import Notifications, clock
from service.database.pool import Database
from service.http.errors import Unauthorized


@dataclass(eq=False, slots=True)
class SessionUse:
    """What the session list shows of a session, as this process last saw it; times in seconds.

    A process may be behind: the database decides, see ``sessions.touch``.
    """

    last_used_at: float
    touched_at: float
    """When a fresh access token last updated ``last_used_at``; 0 is never."""
    ip: str | None
    user_agent: str | None
    seen: object = None
    """The headers of the latest request that was compared with ``ip`` and ``user_agent``."""

    @classmethod
    def of(cls, row: Any) -> "SessionUse":
        """The use in a row that has these columns."""
        touched_at = row["touched_at"]
        return cls(
            row["last_used_at"].timestamp(),
            touched_at.timestamp() if touched_at is not None else 0.0,
            row["ip"],
            row["user_agent"],
        )


@dataclass(frozen=True, slots=True)
class User:
    """A user as handlers see one, never with the password's hash; and the session that asks."""

    id: UUID
    email: str
    username: str
    bio: str | None
    image: str | None
    session_id: UUID
    session_expires_at: float
    """In seconds since 1970: when the session expires unless it is refreshed."""
    session_use: SessionUse = field(compare=False)

    @classmethod
    def of(
        cls, row: Any, session_id: UUID, session_expires_at: float, session_use: SessionUse
    ) -> "User":
        """The user in a row that has these columns, in this session."""
        return cls(
            row["id"],
            row["email"],
            row["username"],
            row["bio"],
            row["image"],
            session_id,
            session_expires_at,
            session_use,
        )


class Identity:
    """Finds the user of a token: in memory while that can be trusted, or in the database."""

    def __init__(
        self, database: Database, tokens: AccessTokens, memory: Memory, notifications: Notifications
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._memory = memory
        self._notifications = notifications

    async def identify(self, token: str) -> User:
        """The user whom ``token`` was issued to.

        Raises ``Unauthorized`` when the token is invalid or expired, its session has ended, or the
        account is gone.
        """
        memory, now = self._memory, time.time()
        claims = memory.claims.get(token)
        if claims is None or claims.expires_at <= now:
            claims = self._tokens.verify(token)
            memory.remember_claims(token, claims)
        if clock() < self._notifications.trusted_until:
            user = memory.users.get(claims.session_id)
            if (
                user is not None
                and user.id == claims.user_id
                # No token outlives its session as it was when the token was issued. One that
                # outlives the session in the cache was issued after a refresh since.
                and user.session_expires_at >= claims.expires_at
            ):
                return user
        return await self._load(claims)

    async def _load(self, claims: Claims) -> User:
        trusted = self._notifications.is_trusted()
        with self._memory.loading(claims.user_id, claims.session_id) as load:
            row = await sql.sessions.find_with_user(
                self._database, id=claims.session_id, user_id=claims.user_id
            )
        if row is None or row["expired"] or row["end_reason"] is not None:
            raise revoked_token(row["end_reason"] if row is not None else None)
        user = User.of(
            row, row["session_id"], row["session_expires_at"].timestamp(), SessionUse.of(row)
        )
        if trusted and not load.stale:
            self._memory.remember_user(user)
        return user


def revoked_token(end_reason: str | None = None) -> Unauthorized:
    """The refusal of a token whose session is over; a device that had to go is told so."""
    code = "session_evicted" if end_reason == "evicted" else "token_revoked"
    return Unauthorized("token", "has been revoked", code=code)


TOKENS = web.AppKey("tokens", AccessTokens)
MEMORY = web.AppKey("memory", Memory)
