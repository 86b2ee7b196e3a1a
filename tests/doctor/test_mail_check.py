"""Test the check of the mail server, over real SMTP."""

import ssl
from collections.abc import AsyncIterator

import asyncpg
import pytest
import trustme

from service.doctor.findings import Status
from service.doctor.mail_check import check_mail
from tests.doctor.checks import messages, problems, run_check
from tests.mail.mail_server import MailServer, serve_mail
from tests.processes import free_port

FROM = "Accounts <accounts@example.org>"
ALICE = "alice@example.test"


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with serve_mail(MailServer(), auth_require_tls=False) as server:
        yield server


async def test_server_that_accepts_the_login_gets_no_mail(server: MailServer) -> None:
    url = f"smtp://u:word@127.0.0.1:{server.port}"
    findings = await run_check(check_mail, smtp_url=url, mail_from=FROM)
    assert messages(findings) == "the mail server responds: no encryption, login accepted"
    assert server.logins == [("u", "word")]
    assert server.mails == []


async def test_send_to_sends_one_mail(server: MailServer) -> None:
    url = f"smtp://127.0.0.1:{server.port}"
    findings = await run_check(check_mail, send_to=ALICE, smtp_url=url, mail_from=FROM)
    assert problems(findings) == []
    assert f"accepted a test mail to {ALICE}" in messages(findings)
    (mail,) = server.mails
    assert mail["To"] == ALICE
    assert mail["Subject"] == "Test mail of localhost:3000"


async def test_rejected_mail_is_a_problem(server: MailServer) -> None:
    server.recipient_reply = "550 no"
    url = f"smtp://127.0.0.1:{server.port}"
    findings = await run_check(check_mail, send_to=ALICE, smtp_url=url, mail_from=FROM)
    assert problems(findings) == ["the mail server does not accept the test mail: reply 550"]


async def test_rejected_login_is_a_problem_without_the_password(server: MailServer) -> None:
    server.accepts_login = False
    url = f"smtp://u:word@127.0.0.1:{server.port}"
    findings = await run_check(check_mail, smtp_url=url, mail_from=FROM)
    assert problems(findings) == ["the mail server rejects the login (reply 535)"]
    assert "word@" not in f"{findings}"


async def test_server_that_cannot_be_reached_is_a_problem() -> None:
    url = f"smtp://u:word@127.0.0.1:{free_port()}"
    findings = await run_check(check_mail, smtp_url=url, mail_from=FROM)
    assert problems(findings) == ["the mail server cannot be reached; mails wait"]


async def test_server_without_a_login_is_a_problem_with_a_password() -> None:
    async with serve_mail(MailServer()) as server:  # It offers the login only with TLS.
        url = f"smtp://u:word@127.0.0.1:{server.port}"
        findings = await run_check(check_mail, smtp_url=url, mail_from=FROM)
    assert "offers no STARTTLS or no login" in problems(findings)[0]
    assert server.logins == []


async def test_unknown_certificate_is_a_problem() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with serve_mail(MailServer(), context) as server:
        url = f"smtps://127.0.0.1:{server.port}"
        findings = await run_check(check_mail, smtp_url=url, mail_from=FROM)
    assert problems(findings) == ["TLS with the mail server fails"]


async def test_missing_server_is_a_problem_only_where_mails_must_be_sent() -> None:
    (finding,) = await run_check(check_mail)
    assert finding.status is Status.NOTE
    assert len(problems(await run_check(check_mail, send_to=ALICE))) == 1
    findings = await run_check(check_mail, database_url="postgresql:///x")
    assert problems(findings) == ["SMTP_URL is not set, so mails are printed to the log"]


async def test_mails_that_wait_for_long_are_a_problem(
    db: asyncpg.Connection, database_url: str
) -> None:
    await db.execute(
        "insert into outbox (recipient, template, language, values, created_at, state, finished_at)"
        " values ('a@b.test', 'verify_email', 'en', '{}', now() - interval '5 minutes', 'pending',"
        " null), ('a@b.test', 'verify_email', 'en', '{}', now(), 'refused', now())"
    )
    text = messages(await run_check(check_mail, database_url))
    assert "mails that wait: 1" in text
    assert "refused for good: 1" in text
    await db.execute("update outbox set created_at = now() - interval '90 minutes'")
    findings = await run_check(check_mail, database_url)
    assert problems(findings) == ["mails that wait: 1, the oldest for 90 minutes"]


async def test_outbox_that_cannot_be_read_is_a_note() -> None:
    findings = await run_check(check_mail, "postgresql://u@127.0.0.1:1/x")
    assert problems(findings) == []
    assert "cannot be read" in messages(findings)
