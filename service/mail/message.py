"""A mail, the interface of an object that sends it, and the two ways in which that can fail."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Mail:
    """A plain-text mail to one recipient."""

    recipient: str
    subject: str
    text: str


class PermanentMailError(Exception):
    """The server permanently rejects this mail. The message gives the reason."""


class TemporaryMailError(Exception):
    """The server did not accept the mail now. A later attempt may succeed."""


class Mailer(Protocol):
    """The interface of an object that sends mails."""

    async def send(self, mail: Mail, *, mail_id: UUID, written_at: datetime) -> None:
        """Send ``mail``. Raise ``PermanentMailError`` or ``TemporaryMailError`` on failure."""
