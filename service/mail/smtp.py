"""A mail, and how it leaves the service: to an SMTP server, or printed to the log without one."""

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from typing import Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib
import idna

from service.settings.settings import Settings

logger = logging.getLogger(__name__)

COMMAND_TIMEOUT = 10.0  # Seconds that the server may take to answer one command.
FAREWELL_TIMEOUT = 1.0
SEND_TIMEOUT = 45.0  # Seconds that one mail may take, from the connection to the last answer.


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to one address, of plain text."""

    recipient: str
    subject: str
    text: str


class PermanentMailError(Exception):
    """The server takes this mail neither now nor later; the message says why."""


class TemporaryMailError(Exception):
    """The mail could not be handed over now; a later try may succeed."""


class Mailer(Protocol):
    """What sends mails."""

    async def send(self, mail: Mail, *, mail_id: UUID, written_at: datetime) -> None:
        """Hand ``mail`` over. Raises ``PermanentMailError`` and ``TemporaryMailError``."""


def create_mailer(settings: Settings) -> Mailer:
    """The way that ``SMTP_URL`` names."""
    return SmtpServer(settings.smtp_url, settings.mail_from) if settings.smtp_url else MailLog()


class MailLog:
    """Prints mails to the log, for development: no server is needed to read them."""

    async def send(self, mail: Mail, *, mail_id: UUID, written_at: datetime) -> None:
        """Print ``mail``."""
        logger.info(
            "A mail to %s (SMTP_URL is not set): %s\n\n%s", mail.recipient, mail.subject, mail.text
        )


class SmtpServer:
    """Hands mails to a server that takes submissions (RFC 6409), each on its own connection."""

    def __init__(self, url: str, mail_from: str) -> None:
        """``url`` is ``smtp://`` or ``smtps://``, ``mail_from`` an address, with a name or not."""
        parts = urlsplit(url)
        self._from = mail_from
        _, self._sender = parseaddr(mail_from)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._is_tls = parts.scheme == "smtps"
        # Made once: reading the system's certificates would hold up the event loop at every mail.
        self._tls = ssl.create_default_context()
        # Without a password TLS is used where the server offers it; a password must not travel in
        # the clear because somebody cut the offer out (RFC 8314, section 3).
        is_localhost = self._host in ("localhost", "127.0.0.1", "::1")
        self._starts_tls = True if self._password and not is_localhost else None

    async def send(self, mail: Mail, *, mail_id: UUID, written_at: datetime) -> None:
        """Hand ``mail`` over. Raises ``PermanentMailError`` and ``TemporaryMailError``."""
        recipient = _in_ascii(mail.recipient)
        message = self._message(mail, recipient, mail_id, written_at)
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._is_tls,
            start_tls=False if self._is_tls else self._starts_tls,
            tls_context=self._tls,
            timeout=COMMAND_TIMEOUT,
        )
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await client.connect()
                await client.send_message(message, sender=self._sender, recipients=[recipient])
        except aiosmtplib.SMTPRecipientsRefused as refused:
            raise _outcome(refused.recipients[0].code) from refused
        except aiosmtplib.SMTPDataError as refused:
            raise _outcome(refused.code) from refused
        except (aiosmtplib.SMTPException, OSError) as error:
            if isinstance(error, aiosmtplib.SMTPNotSupported) and not recipient.isascii():
                raise PermanentMailError("no SMTPUTF8") from error
            raise TemporaryMailError(f"{type(error).__name__}: {error}") from error
        else:
            # The mail is theirs: a farewell that fails must not send it again.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=FAREWELL_TIMEOUT)
        finally:
            client.close()

    def _message(
        self, mail: Mail, recipient: str, mail_id: UUID, written_at: datetime
    ) -> EmailMessage:
        message = EmailMessage(policy=SMTP.clone(utf8=not recipient.isascii()))
        message["From"] = self._from
        message["To"] = recipient
        message["Subject"] = mail.subject
        message["Date"] = written_at
        message["Message-ID"] = f"<{mail_id}@{self._sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notes in return.
        message.set_content(mail.text)
        return message


def _in_ascii(address: str) -> str:
    """``address`` with its domain as DNS has it: then few servers mind letters beyond ASCII."""
    local_part, _, domain = address.rpartition("@")
    return address if domain.isascii() else f"{local_part}@{idna.encode(domain).decode()}"


def _outcome(code: int) -> Exception:
    # RFC 5321, section 4.2.1: 5yz will not succeed later, 4yz may.
    return (
        PermanentMailError(f"reply {code}") if code >= 500 else TemporaryMailError(f"reply {code}")
    )
