"""The authenticated user and the session of the request, as handlers see them."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(eq=False, slots=True)
class SessionUse:
    """The latest use of a session, as the session list shows it. Times are in seconds since 1970.

    This is the state that this process read last. It can be out of date, so the database decides:
    see ``sessions.touch``.
    """

    last_used_at: float
    touched_at: float
    """When a new access token last updated ``last_used_at``; 0 means never."""
    ip: str | None
    user_agent: str | None

    @classmethod
    def of(cls, row: Any) -> "SessionUse":
        """Create a ``SessionUse`` from a row that has these columns."""
        touched_at = row["touched_at"]
        return cls(
            row["last_used_at"].timestamp(),
            touched_at.timestamp() if touched_at is not None else 0.0,
            row["ip"],
            row["user_agent"],
        )


@dataclass(frozen=True, slots=True)
class User:
    """A user as handlers see them, without the password hash, and the session of the request."""

    id: UUID
    email: str
    username: str
    bio: str | None
    image: str | None
    session_id: UUID
    session_expires_at: float
    """When the session expires unless it is refreshed, in seconds since 1970."""
    session_use: SessionUse = field(compare=False)

    @classmethod
    def of(
        cls, row: Any, session_id: UUID, session_expires_at: float, session_use: SessionUse
    ) -> "User":
        """Create a ``User`` in this session from a row that has these columns."""
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
