"""The findings of the checks, and the context that the checks get."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from service.settings.settings import Settings


class Status(StrEnum):
    """How a finding counts. Only a problem changes the exit status."""

    OK = "ok"
    PROBLEM = "problem"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the installation, as one sentence without a final period."""

    status: Status
    message: str
    action: str | None = None
    """What the operator should do. A problem always has an action."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the checks examine."""

    settings: Settings
    """The settings, with the secrets that the embedded server has generated."""
    database_url: str | None
    """The URL of the database, or ``None`` while the embedded server does not run."""
    send_to: str | None = None
    """The email that gets a test mail."""

    @property
    def session_database_url(self) -> tuple[str | None, str]:
        """Return the URL without a pooler in front of the database, and the name of its setting."""
        if self.settings.database_listen_url is not None:
            return self.settings.database_listen_url, "DATABASE_LISTEN_URL"
        return self.database_url, "DATABASE_URL"


Check: TypeAlias = Callable[[Context], AsyncIterator[Finding]]
"""A check yields each finding as soon as it is known: a time limit keeps the earlier ones."""


def ok(message: str) -> Finding:
    """Return a finding that something holds."""
    return Finding(Status.OK, message)


def problem(message: str, action: str) -> Finding:
    """Return a finding that something does not hold, with what to do."""
    return Finding(Status.PROBLEM, message, action)


def note(message: str, action: str | None = None) -> Finding:
    """Return a finding that is worth knowing, or that something cannot be known."""
    return Finding(Status.NOTE, message, action)
