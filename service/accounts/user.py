"""The authenticated user and the session of the request, as handlers see them."""

from dataclasses import dataclass, field, replace
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
    auth_time: float
    """When the person last proved who they are, in seconds since 1970."""
    amr: tuple[str, ...]
    """The methods of that proof (RFC 8176)."""
    two_factor: bool
    """Whether the second factor of the account is on."""
    roles: tuple[str, ...]
    """The roles that administrators gave to the user, in alphabetical order."""
    session_use: SessionUse = field(compare=False)

    @classmethod
    def of(cls, row: Any) -> "User":
        """Create a ``User`` from a row of ``sessions.find_with_user``."""
        return cls(
            row["id"],
            row["email"],
            row["username"],
            row["bio"],
            row["image"],
            row["session_id"],
            row["session_expires_at"].timestamp(),
            row["auth_time"].timestamp(),
            tuple(row["amr"]),
            row["two_factor"],
            tuple(row["roles"]),
            SessionUse.of(row),
        )

    def with_profile(self, row: Any) -> "User":
        """Return this user, in the same session, with the profile in ``row``."""
        profile = {name: row[name] for name in ("email", "username", "bio", "image")}
        return replace(self, **profile)
