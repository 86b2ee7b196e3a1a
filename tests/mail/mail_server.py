"""A mail server for tests: real SMTP on a socket, with replies that a test can choose."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from email.message import Message
from email.parser import BytesParser
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class MailServer:
    """Keep the received mails, and reply with the configured replies."""

    def __init__(self) -> None:
        self.port = 0
        self.envelopes: list[Envelope] = []
        self.logins: list[tuple[str, str]] = []
        self.recipient_reply = "250 OK"
        self.data_reply = "250 OK"
        self.arrived = asyncio.Event()
        self.recipients: asyncio.Queue[str] = asyncio.Queue()
        """The recipients of the mails, in the order of arrival, also before the reply."""
        self.gate = asyncio.Event()
        """While it is not set, the server receives a mail but does not reply."""
        self.gate.set()
        self.slow: set[str] | None = None
        """The recipients that the gate holds up. ``None`` means all of them."""
        self.drops = False
        """Whether the server closes the connection instead of its reply to a mail."""
        self.accepts_login = True
        self.max_running = 0
        """The largest number of mails that waited for their reply at the same time."""
        self._running = 0

    @property
    def mails(self) -> list[Message]:
        """Return the received mails, parsed."""
        parser = BytesParser(policy=default)
        return [parser.parsebytes(envelope.content) for envelope in self.envelopes]  # type: ignore[arg-type]

    async def handle_RCPT(  # noqa: N802
        self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        if self.recipient_reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient_reply

    async def handle_DATA(self, smtp: SMTP, _: Session, envelope: Envelope) -> str:  # noqa: N802
        self._running += 1
        self.max_running = max(self.max_running, self._running)
        (recipient,) = envelope.rcpt_tos
        self.arrived.set()
        self.recipients.put_nowait(recipient)
        if self.slow is None or recipient in self.slow:
            await self.gate.wait()
        self._running -= 1
        if self.drops:
            assert isinstance(smtp.transport, asyncio.Transport)
            smtp.transport.abort()
        if self.data_reply.startswith("250"):
            self.envelopes.append(envelope)
        return self.data_reply

    def authenticate(self, _: Any, __: Any, ___: Any, mechanism: str, given: Any) -> AuthResult:
        if not isinstance(given, LoginPassword):
            return AuthResult(success=False, handled=False)
        self.logins.append((given.login.decode(), given.password.decode()))
        return AuthResult(success=self.accepts_login, handled=False)


@contextlib.asynccontextmanager
async def serve_mail(
    server: MailServer, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[MailServer]:
    """Serve ``server`` on a free port. With ``tls``, connections are encrypted from the start."""
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: SMTP(server, authenticator=server.authenticate, loop=loop, **options),
        "127.0.0.1",
        server.port,
        ssl=tls,
    )
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        server.gate.set()
