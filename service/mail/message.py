"""A mail, the message made from it, and the interface of an object that sends it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to one recipient, as it is queued: a template and its values.

    ``values`` never contain text that an attacker controls (username, user agent): they could send
    spam through this service.
    """

    recipient: str
    template: str
    language: str
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Message:
    """A mail as its recipient reads it. ``text`` and ``html`` say the same."""

    subject: str
    text: str
    html: str


class PermanentMailError(Exception):
    """The server permanently rejects this mail. The message gives the reason."""


class TemporaryMailError(Exception):
    """The server did not accept the mail now. A later attempt may succeed."""


class MailServerUnavailable(TemporaryMailError):
    """The server cannot be reached or rejects the login: no mail can be sent now."""


class Mailer(Protocol):
    """The interface of an object that sends messages."""

    async def send(
        self, message: Message, recipient: str, *, mail_id: UUID, written_at: datetime
    ) -> None:
        """Send ``message``. Raise ``PermanentMailError`` or ``TemporaryMailError`` on failure."""
