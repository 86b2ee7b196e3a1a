"""Kill the service and the mail server as processes: no mail is lost, and few arrive twice."""

import contextlib
import http.client
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.mail.outbox import CONCURRENCY
from tests.mail.mail_process import MailProcess
from tests.processes import Process, eventually, needs_proc, serve

WRITE = """
    insert into outbox (recipient, template, language, values)
    values (%s, 'lockout', 'en', '{"time": "now", "ip": "192.0.2.1", "minutes": "60"}')
"""
ALICE = "alice@example.test"


class Service:
    """A database, and the processes of a service that use it."""

    def __init__(self, url: str, folder: Path, mail: MailProcess) -> None:
        self._url = url
        self._folder = folder
        self._mail = mail
        self._starts = 0

    def start(self, **settings: Any) -> Process:
        """Start the service and return its process once it listens."""
        self._starts += 1
        process = serve(
            self._folder / f"service{self._starts}",
            DATABASE_URL=self._url,
            **self._mail.settings,
            **settings,
        )
        return process.wait_until_serving()

    def execute(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement, commit, and return its rows."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def write_all(self, recipients: list[str]) -> None:
        """Commit a mail to each recipient, and roll back as many mails to strangers."""
        with psycopg.connect(self._url) as connection:
            for recipient in recipients:
                connection.execute(WRITE, (recipient,))
                connection.commit()
                connection.execute(WRITE, ("stranger@example.test",))
                connection.rollback()

    def claimed(self) -> int:
        """Return the number of mails that wait and that a process has tried to send."""
        query = "select count(*) from outbox where attempts > 0 and state = 'pending'"
        return int(self.execute(query)[0][0])

    def states(self) -> Counter[str]:
        """Return the number of mails in each state."""
        return Counter(dict(self.execute("select state, count(*) from outbox group by state")))

    def has_accounts(self, count: int) -> bool:
        """Return whether ``count`` users have registered."""
        return int(self.execute("select count(*) from users")[0][0]) >= count

    def end_leases(self) -> None:
        """Let the time pass for which a killed process holds its mails."""
        self.execute("update outbox set due_at = now()")


@pytest.fixture
def mail(tmp_path: Path) -> MailProcess:
    return MailProcess(tmp_path)


@pytest.fixture
def service(new_database: Callable[[], str], tmp_path: Path, mail: MailProcess) -> Service:
    return Service(new_database(), tmp_path, mail)


@pytest.fixture
def mail_server(mail: MailProcess) -> Iterator[Process]:
    with mail.start() as process:
        yield process


@needs_proc
def test_mail_is_sent_once_when_the_service_is_killed_before_it_sends(
    service: Service, mail: MailProcess, mail_server: Process
) -> None:
    # The kernel accepts connections for the stopped server, which does not greet.
    mail_server.send(signal.SIGSTOP)
    with service.start() as killed:
        service.execute(WRITE, ALICE)
        eventually(service.claimed, "an attempt to send")
    eventually(lambda: not killed.remaining_processes(), "the end of all processes")
    mail_server.send(signal.SIGCONT)
    service.end_leases()
    with service.start():
        eventually(lambda: service.states() == {"sent": 1}, "the mail")
    assert mail.copies() == {ALICE: 1}


@needs_proc
def test_mail_is_sent_at_most_twice_when_the_service_is_killed_before_it_marks_it(
    service: Service, mail: MailProcess, mail_server: Process
) -> None:
    mail.hold()
    with service.start() as killed:
        service.execute(WRITE, ALICE)
        eventually(mail.copies, "the first copy")
    eventually(lambda: not killed.remaining_processes(), "the end of all processes")
    assert service.states() == {"pending": 1}
    mail.release()
    service.end_leases()
    with service.start():
        eventually(lambda: service.states() == {"sent": 1}, "the second copy")
        service.end_leases()
        service.execute(WRITE, "bob@example.test")
        eventually(lambda: service.states() == {"sent": 2}, "a later mail")
    assert mail.copies() == {ALICE: 2, "bob@example.test": 1}
    assert len(mail.message_ids()[ALICE]) == 1


@needs_proc
def test_every_mail_arrives_when_the_mail_server_is_killed_under_load(
    service: Service, mail: MailProcess
) -> None:
    """Two processes send 300 mails. The server is killed three times while mails are queued."""
    recipients = [f"user{number}@example.test" for number in range(300)]
    with service.start(WEB_CONCURRENCY=2) as process, ThreadPoolExecutor(1) as thread:
        written = thread.submit(service.write_all, recipients)
        for stored in (40, 100, 160):
            with mail.start() as server:
                eventually(partial(mail.has_stored, stored), f"{stored} mails")
                server.send(signal.SIGKILL)
                server.wait_for_exit()
            assert service.states()["pending"] > 0
        with mail.start():
            written.result()
            eventually(lambda: service.states() == {"sent": 300}, "all mails")
        assert len(process.workers()) == 2
    copies = mail.copies()
    assert set(copies) == set(recipients)
    assert {len(ids) for ids in mail.message_ids().values()} == {1}
    # Only those arrive twice that the server had stored when it was killed before its reply.
    assert copies.total() - 300 <= 3 * 2 * CONCURRENCY


@needs_proc
def test_every_registered_account_gets_its_mail_when_processes_are_killed(
    service: Service, mail: MailProcess, mail_server: Process
) -> None:
    """Both workers are killed during registrations, twice. Then the whole service is killed.

    The mail server is stopped, so that each process dies while it sends mails.
    """
    mail_server.send(signal.SIGSTOP)
    registered = ThreadPoolExecutor(4)
    names = [f"user{number}" for number in range(60)]

    def register(process: Process, name: str) -> None:
        # A registration whose response is lost may have been committed or not.
        with contextlib.suppress(OSError, http.client.HTTPException):
            process.register(name)

    with service.start(WEB_CONCURRENCY=2) as process, registered:
        done = [registered.submit(register, process, name) for name in names]
        for accounts in (10, 25):
            eventually(partial(service.has_accounts, accounts), f"{accounts} accounts")
            eventually(service.claimed, "an attempt to send")
            for worker in process.workers():
                os.kill(worker, signal.SIGKILL)
        for registration in done:
            registration.result()
    eventually(lambda: not process.remaining_processes(), "the end of all processes")
    mail_server.send(signal.SIGCONT)
    service.end_leases()
    with service.start():
        eventually(lambda: set(service.states()) == {"sent"}, "all mails")
    due = {email for (email,) in service.execute("select email from users")}
    copies = mail.copies()
    assert 25 <= len(due) <= 60
    assert set(copies) == due
    assert {len(ids) for ids in mail.message_ids().values()} == {1}
    assert copies.total() == len(due)
