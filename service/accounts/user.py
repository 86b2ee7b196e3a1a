"""The user that handlers see, in the session that asks."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


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
