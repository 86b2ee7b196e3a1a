"""Send a mail to an SMTP server, or print it to the log when no server is set."""

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib
import idna

from service.mail.message import (
    Mailer,
    MailServerUnavailable,
    Message,
    PermanentMailError,
    TemporaryMailError,
)
from service.settings.settings import Settings

logger = logging.getLogger(__name__)

COMMAND_TIMEOUT = 10.0  # Seconds for the server's reply to one command.
QUIT_TIMEOUT = 1.0  # Seconds for the reply to QUIT.
SEND_TIMEOUT = 45.0  # Seconds for one mail, from the connection to the last reply.


@dataclass(frozen=True, slots=True)
class ServerState:
    """What a connection to the mail server has shown."""

    tls: str | None
    """The version of TLS, or ``None`` without encryption."""
    has_login: bool
    """Whether the server accepted a user and a password."""


def create_mailer(settings: Settings) -> Mailer:
    """Return a mailer for the server of ``SMTP_URL``, or ``MailLog`` when that is not set."""
    return SmtpServer(settings.smtp_url, settings.mail_from) if settings.smtp_url else MailLog()


class MailLog:
    """Print mails to the log, so that development needs no mail server."""

    async def send(
        self, message: Message, recipient: str, *, mail_id: UUID, written_at: datetime
    ) -> None:
        """Print the text of ``message`` to the log."""
        logger.info(
            "mail printed, SMTP_URL is not set: to=%s subject=%s\n\n%s",
            recipient,
            message.subject,
            message.text,
        )


class SmtpServer:
    """Send mails to a submission server (RFC 6409), each on its own connection."""

    def __init__(self, url: str, mail_from: str) -> None:
        """Use the server at ``url``, which starts with ``smtp://`` or ``smtps://``.

        ``mail_from`` is the sender's email, with or without a display name.
        """
        parts = urlsplit(url)
        self._from = mail_from
        _, self._sender = parseaddr(mail_from)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._is_tls = parts.scheme == "smtps"
        # Created once: to read the system's certificates for each mail would block the event loop.
        self._tls = ssl.create_default_context()
        # Without a password, use TLS if the server offers it. With a password, require TLS: an
        # attacker who removes the offer must not receive it in clear text (RFC 8314, section 3).
        is_localhost = self._host in ("localhost", "127.0.0.1", "::1")
        self._starts_tls = True if self._password and not is_localhost else None

    async def send(
        self, message: Message, recipient: str, *, mail_id: UUID, written_at: datetime
    ) -> None:
        """Send ``message``. Raise ``PermanentMailError`` or ``TemporaryMailError`` on failure.

        Raise ``MailServerUnavailable``, a ``TemporaryMailError``, if the failure does not depend on
        the message.
        """
        recipient = _with_ascii_domain(recipient)
        content = self._content(message, recipient, mail_id, written_at)
        client = self._client()
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await _connect(client)
                await client.send_message(content, sender=self._sender, recipients=[recipient])
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _error_of_reply(error.recipients[0].code) from error
        except aiosmtplib.SMTPDataError as error:
            raise _error_of_reply(error.code) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            if isinstance(error, aiosmtplib.SMTPNotSupported) and not recipient.isascii():
                raise PermanentMailError("no SMTPUTF8") from error
            raise TemporaryMailError(_reason(error)) from error
        else:
            # The server has accepted the mail: a failed QUIT must not send it again.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=QUIT_TIMEOUT)
        finally:
            client.close()

    async def probe(self) -> ServerState:
        """Connect and log in as for a mail, but send none. Raise ``MailServerUnavailable``."""
        client = self._client()
        try:
            await _connect(client)
            tls = client.get_transport_info("ssl_object")
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=QUIT_TIMEOUT)
            return ServerState(tls.version() if tls is not None else None, self._user is not None)
        finally:
            client.close()

    def _client(self) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._is_tls,
            start_tls=False if self._is_tls else self._starts_tls,
            tls_context=self._tls,
            timeout=COMMAND_TIMEOUT,
        )

    def _content(
        self, message: Message, recipient: str, mail_id: UUID, written_at: datetime
    ) -> EmailMessage:
        content = EmailMessage(policy=SMTP.clone(utf8=not recipient.isascii()))
        content["From"] = self._from
        content["To"] = recipient
        content["Subject"] = message.subject
        content["Date"] = written_at
        content["Message-ID"] = f"<{mail_id}@{self._sender.rpartition('@')[2]}>"
        content["Auto-Submitted"] = "auto-generated"  # RFC 3834: prevents automatic replies.
        content.set_content(message.text)
        content.add_alternative(message.html, subtype="html")
        return content


async def _connect(client: aiosmtplib.SMTP) -> None:
    """Connect, encrypt and log in. Raise ``MailServerUnavailable``."""
    try:
        await client.connect()
    except (aiosmtplib.SMTPException, OSError) as error:
        raise MailServerUnavailable(_reason(error)) from error


def _with_ascii_domain(email: str) -> str:
    """Return ``email`` with its domain in ASCII, as in DNS (IDNA).

    Then only a recipient with other letters before the @ needs a server that supports SMTPUTF8.
    """
    local_part, _, domain = email.rpartition("@")
    return email if domain.isascii() else f"{local_part}@{idna.encode(domain).decode()}"


def _error_of_reply(code: int) -> Exception:
    # RFC 5321, section 4.2.1: a reply 5yz is permanent, a reply 4yz is temporary.
    error = PermanentMailError if code >= 500 else TemporaryMailError
    return error(f"reply {code}")


def _reason(error: Exception) -> str:
    """Return the reason of a failure, without the text of a reply: it may quote the mail."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"{type(error).__name__}: reply {error.code}"
    return f"{type(error).__name__}: {error}"
