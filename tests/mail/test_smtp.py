"""Test sending a mail, over real SMTP or to the log."""

import asyncio
import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trustme

from service.mail import smtp
from service.mail.message import (
    MailServerUnavailable,
    Message,
    PermanentMailError,
    TemporaryMailError,
)
from service.mail.smtp import SmtpServer, create_mailer
from service.settings.settings import Settings
from tests.mail.mail_server import MailServer, serve_mail

FROM = "Accounts <accounts@example.org>"
ID = UUID("0b7a1f52-6a5e-4f0e-9d3a-5f2f0b9a3c11")
WRITTEN = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
ALICE = "alice@example.test"
MESSAGE = Message("Wörter", "Ein Text: äöü.\n", "<p>Ein Text: äöü.</p>\n")


async def send(
    server: MailServer, recipient: str = ALICE, url: str = "smtp://127.0.0.1:{port}"
) -> None:
    """Send ``MESSAGE`` with the mailer that the settings create for ``url``."""
    settings = Settings(smtp_url=url.format(port=server.port), mail_from=FROM)
    await create_mailer(settings).send(MESSAGE, recipient, mail_id=ID, written_at=WRITTEN)


async def test_smtp_server_receives_the_headers_and_both_parts_of_the_mail(
    server: MailServer,
) -> None:
    await send(server)
    (envelope,), (message,) = server.envelopes, server.mails
    assert (envelope.mail_from, envelope.rcpt_tos) == ("accounts@example.org", [ALICE])
    assert dict(message.items()) | {"MIME-Version": "1.0"} == {
        "From": FROM,
        "To": ALICE,
        "Subject": MESSAGE.subject,
        "Date": "Tue, 24 Nov 2026 08:00:00 +0000",
        "Message-ID": f"<{ID}@example.org>",
        "Auto-Submitted": "auto-generated",
        "Content-Type": message["Content-Type"],
        "MIME-Version": "1.0",
    }
    assert message.get_content_type() == "multipart/alternative"
    parts = [(part.get_content_type(), part.get_content()) for part in message.iter_parts()]  # type: ignore[attr-defined]
    # A client shows the last part that it can show (RFC 2046, section 5.1.4).
    assert parts == [
        ("text/plain", MESSAGE.text.replace("\n", "\r\n")),
        ("text/html", MESSAGE.html.replace("\n", "\r\n")),
    ]


@pytest.mark.parametrize(
    ("recipient", "sent_to"),
    [
        ("alice@bücher.example", "alice@xn--bcher-kva.example"),
        ("älice@bücher.example", "älice@xn--bcher-kva.example"),
        ('"a, b"@example.test', '"a, b"@example.test'),
    ],
)
async def test_recipient_is_encoded_for_smtp(recipient: str, sent_to: str) -> None:
    async with serve_mail(MailServer(), enable_SMTPUTF8=True) as server:
        await send(server, recipient)
    assert server.envelopes[0].rcpt_tos == [sent_to]


async def test_recipient_beyond_ascii_is_a_permanent_error(
    server: MailServer,
) -> None:
    with pytest.raises(PermanentMailError):
        await send(server, "älice@example.test")


@pytest.mark.parametrize("stage", ["recipient_reply", "data_reply"])
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ("450 later", TemporaryMailError),
        ("550 nobody", PermanentMailError),
        ("554 spam", PermanentMailError),
    ],
)
async def test_reply_code_decides_between_permanent_and_temporary_error(
    server: MailServer, stage: str, reply: str, error: type[Exception]
) -> None:
    setattr(server, stage, reply)
    with pytest.raises(error, match=f"reply {reply[:3]}"):
        await send(server)
    assert server.envelopes == []


async def test_send_raises_a_temporary_error_when_the_server_is_unreachable() -> None:
    async with serve_mail(MailServer()) as server:
        pass
    with pytest.raises(MailServerUnavailable):
        await send(server)


async def test_send_raises_a_temporary_error_when_the_server_does_not_reply(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.gate.clear()
    monkeypatch.setattr(smtp, "SEND_TIMEOUT", 0.2)
    with pytest.raises(TemporaryMailError):
        await send(server)


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return the TLS context of a server on localhost. Trust the issuer of its certificate."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return context


async def test_smtps_url_uses_tls_and_logs_in(tls: ssl.SSLContext) -> None:
    async with serve_mail(MailServer(), tls, auth_require_tls=False) as server:
        await send(server, url="smtps://user%40x:p%2Fw@localhost:{port}")
    assert (len(server.mails), server.logins) == (1, [("user@x", "p/w")])


async def test_smtp_url_uses_starttls_when_the_server_offers_it(tls: ssl.SSLContext) -> None:
    offered: dict[str, Any] = {"tls_context": tls, "require_starttls": True}
    async with serve_mail(MailServer(), **offered) as server:
        await send(server, url="smtp://user:password@localhost:{port}")
    assert (len(server.mails), server.logins) == (1, [("user", "password")])


async def test_send_raises_a_temporary_error_when_the_certificate_is_not_trusted(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with serve_mail(MailServer(), tls) as server:
        with pytest.raises(TemporaryMailError):
            await send(server, url="smtps://localhost:{port}")


async def test_password_is_never_sent_in_clear_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attacker on the network path has removed the server's offer of TLS."""
    async with serve_mail(MailServer(), auth_require_tls=False) as server:
        mailer = SmtpServer(f"smtp://user:password@127.0.0.2:{server.port}", FROM)
        monkeypatch.setattr(mailer, "_host", "127.0.0.1")
        with pytest.raises(TemporaryMailError):
            await mailer.send(MESSAGE, ALICE, mail_id=ID, written_at=WRITTEN)
    assert (server.logins, server.envelopes) == ([], [])


async def test_mail_is_printed_without_smtp_url(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    await create_mailer(Settings()).send(MESSAGE, ALICE, mail_id=ID, written_at=WRITTEN)
    (record,) = caplog.records
    assert record.getMessage() == (
        "mail printed, SMTP_URL is not set: to=alice@example.test subject=Wörter"
        "\n\nEin Text: äöü.\n"
    )


async def test_rejected_login_concerns_every_mail() -> None:
    async with serve_mail(MailServer(), auth_require_tls=False) as server:
        server.accepts_login = False
        with pytest.raises(MailServerUnavailable, match="SMTPAuthenticationError: reply 535"):
            await send(server, url="smtp://user:password@127.0.0.1:{port}")
    assert (set(server.logins), server.envelopes) == ({("user", "password")}, [])


async def test_lost_connection_in_the_middle_of_a_mail_concerns_this_mail(
    server: MailServer,
) -> None:
    """Otherwise one mail that the server cannot bear would hold up all others."""
    server.drops = True
    with pytest.raises(TemporaryMailError, match="SMTPServerDisconnected") as raised:
        await send(server)
    assert not isinstance(raised.value, MailServerUnavailable)


async def test_rejected_sender_is_a_temporary_error_without_the_text_of_the_reply(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handle_mail(*_: Any) -> str:
        return "550 secret"

    monkeypatch.setattr(server, "handle_MAIL", handle_mail, raising=False)
    with pytest.raises(TemporaryMailError, match=r"^SMTPSenderRefused: reply 550$"):
        await send(server)


@pytest.mark.parametrize("closes", [True, False], ids=["closed", "silent"])
async def test_server_that_does_not_greet_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        if closes:
            writer.close()

    connections: list[asyncio.StreamWriter] = []
    monkeypatch.setattr(smtp, "COMMAND_TIMEOUT", 0.2)
    server = MailServer()
    listening = await asyncio.start_server(connected, "127.0.0.1")
    server.port = listening.sockets[0].getsockname()[1]
    try:
        with pytest.raises(MailServerUnavailable):
            await send(server)
    finally:
        listening.close()
        for writer in connections:
            writer.close()
