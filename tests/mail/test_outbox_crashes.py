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
from tests.processes import Process, account, eventually, needs_proc, serve

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

    def ids(self) -> set[str]:
        """Return the ids of all mails. A mail that was rolled back has none."""
        return {str(mail_id) for (mail_id,) in self.execute("select id from outbox")}

    def is_due(self) -> bool:
        """Return whether a mail waits that no process is sending."""
        query = "select 1 from outbox where state = 'pending' and due_at <= now() limit 1"
        return bool(self.execute(query))

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
def test_every_mail_of_a_request_arrives_when_mail_server_and_workers_are_killed(
    service: Service, mail: MailProcess
) -> None:
    """Requests run all the time, in two workers. The mail server and a worker die three times."""
    names = [f"user{number}" for number in range(60)]

    def send(process: Process, path: str, body: Any) -> int:
        """Send a request again until a response arrives, and return its status."""
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return process.request("POST", path, body)[0]

    def register_and_forget(process: Process, name: str) -> None:
        # A request whose response is lost may have been committed. Then the email is taken.
        assert send(process, "/api/users", account(name)) in (200, 409)
        body = {"email": f"{name}@example.test"}
        assert send(process, "/api/auth/forgot-password", body) == 200

    settings = {"WEB_CONCURRENCY": 2, "FORGOT_PASSWORD_LIMITS": "0,0,0"}
    with service.start(**settings) as process, ThreadPoolExecutor(4) as threads:
        done = [threads.submit(register_and_forget, process, name) for name in names]
        for accounts in (10, 25, 40):
            with mail.start() as server:
                eventually(partial(service.has_accounts, accounts), f"{accounts} accounts")
                eventually(partial(mail.has_stored, accounts // 2), "mails")
                server.send(signal.SIGKILL)
                server.wait_for_exit()
                os.kill(process.workers()[0], signal.SIGKILL)
            eventually(lambda: service.states()["pending"], "a mail that waits")
        assert not all(request.done() for request in done)
        with mail.start():
            for request in done:
                request.result()
            eventually(lambda: not service.is_due(), "an attempt to send each mail")
            service.end_leases()
            eventually(lambda: set(service.states()) == {"sent"}, "all mails")
    assert {email: len(ids) for email, ids in mail.message_ids().items() if len(ids) < 2} == {}
    assert len(mail.copies()) == len(names)
    arrived = [mail_id for ids in mail.message_ids().values() for mail_id in ids]
    assert {mail_id[1:].partition("@")[0] for mail_id in arrived} == service.ids()
    # Twice arrive only those that were being sent when a server, a worker or a lease ended.
    assert mail.copies().total() - len(arrived) <= (3 + 3 + 1) * 2 * CONCURRENCY


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
