"""Check the mail server and the mails that wait. On request, send a mail."""

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import aiosmtplib

import sql
from service.doctor.connection import CannotConnect, connect
from service.doctor.findings import Context, Finding, note, ok, problem
from service.mail.message import (
    MailServerUnavailable,
    Message,
    PermanentMailError,
    TemporaryMailError,
)
from service.mail.smtp import SmtpServer
from service.settings.settings import Settings

MAX_WAIT = 600.0  # Seconds. A mail that waits longer has failed at least twice.


async def check_mail(context: Context) -> AsyncIterator[Finding]:
    """Check the mail server and the mails that wait. On request, send a mail."""
    settings = context.settings
    if settings.smtp_url is None:
        yield _without_server(context)
    else:
        server = SmtpServer(settings.smtp_url, settings.mail_from)
        try:
            state = await server.probe()
        except MailServerUnavailable as error:
            yield _explain(error)
        else:
            tls = state.tls or "no encryption"
            login = "login accepted" if state.has_login else "no login"
            yield ok(f"the mail server responds: {tls}, {login}")
            if context.send_to is not None:
                yield await _send(server, context.send_to, settings)
    # The migrations and an outage are the subject of another check.
    url, setting = context.session_database_url
    if url is not None:
        async for finding in _check_outbox(url, setting):
            yield finding


def _without_server(context: Context) -> Finding:
    message = "SMTP_URL is not set, so mails are printed to the log"
    if context.send_to is not None or not context.settings.embedded:
        return problem(message, "set SMTP_URL, MAIL_FROM and BASE_URL")
    return note(message)


def _explain(error: MailServerUnavailable) -> Finding:
    """Return the finding for a server that no mail can be sent through."""
    cause = error.__cause__
    if isinstance(cause, aiosmtplib.SMTPAuthenticationError):
        return problem(
            f"the mail server rejects the login (reply {cause.code})",
            "correct user and password in SMTP_URL, percent-encoded",
        )
    if _has_tls_error(cause):
        return problem(
            "TLS with the mail server fails",
            "check its certificate, and the host in SMTP_URL; smtps:// is for port 465",
        )
    if isinstance(cause, aiosmtplib.SMTPResponseException):
        return problem(f"the mail server replies {cause.code}", "look into its log")
    if isinstance(cause, aiosmtplib.SMTPConnectError | OSError):
        return problem(
            "the mail server cannot be reached; mails wait",
            "check host and port in SMTP_URL, the network and its firewall",
        )
    return problem(
        "the mail server offers no STARTTLS or no login, so the password is not sent",
        "use smtps://, or another port of the server",
    )


def _has_tls_error(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__
    return error is not None


async def _send(server: SmtpServer, recipient: str, settings: Settings) -> Finding:
    text = f"This is a test mail of {settings.site}. If you can read it, mails arrive."
    message = Message(f"Test mail of {settings.site}", text, f"<p>{text}</p>")
    try:
        await server.send(message, recipient, mail_id=uuid4(), written_at=datetime.now(UTC))
    except (PermanentMailError, TemporaryMailError) as error:
        return problem(
            f"the mail server does not accept the test mail: {error}",
            "check MAIL_FROM: many servers accept only senders of their own domain",
        )
    return ok(f"the mail server accepted a test mail to {recipient}")


async def _check_outbox(url: str, setting: str) -> AsyncIterator[Finding]:
    try:
        async with connect(url, setting) as connection, connection.transaction(readonly=True):
            outbox = await sql.mail_check.read_outbox(connection)
    except CannotConnect:
        yield note("the mails that wait cannot be read, see the check of the database")
        return
    waiting, minutes = outbox["waiting"], outbox["oldest"] / 60
    if outbox["oldest"] > MAX_WAIT:
        yield problem(
            f"mails that wait: {waiting}, the oldest for {minutes:.0f} minutes",
            "`python run.py mail` shows why",
        )
    else:
        yield ok(f"mails that wait: {waiting}")
    if outbox["refused"]:
        yield note(
            f"mails that the server refused for good: {outbox['refused']}",
            "`python run.py mail` lists them, and `python run.py mail retry` sends them again",
        )
