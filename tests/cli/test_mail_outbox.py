"""Test ``run.py mail`` and ``run.py mail retry`` as processes."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.database.migrate import migrate
from service.mail.outbox import LEASE
from tests.processes import RUN, free_port, serve

WRITE = """
    insert into outbox
        (recipient, template, language, values, state, attempts, error, created_at, due_at,
        finished_at)
    values
        (%s, 'lockout', 'en', '{"token": "secret"}', %s, %s, %s, now() - interval '5 days',
        now() + %s * interval '1 second', case when %s = 'pending' then null else now() end)
    returning id
"""


class Outbox:
    """A database with mails, and the command on it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        self._runs = 0

    def write(self, recipient: str, state: str, attempts: int, error: str | None, due: int) -> str:
        """Insert a mail that was written five days ago and is due in ``due`` seconds."""
        values = (recipient, state, attempts, error, due, state)
        return str(self.execute(WRITE, *values)[0][0])

    def execute(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()

    def run(self, *arguments: str) -> tuple[int, list[str], str]:
        """Run ``run.py mail``. Return the exit status, the lines of its output and its errors."""
        self._runs += 1
        command = (*RUN, "mail", *arguments)
        folder = self._folder / str(self._runs)
        with serve(folder, command=command, DATABASE_URL=self.url) as process:
            status = process.wait_for_exit()
            return status, process.out.splitlines(), process.err


@pytest.fixture
def outbox(new_database: Callable[[], str], tmp_path: Path) -> Outbox:
    url = new_database()
    migrate(url, lambda _: None)
    return Outbox(url, tmp_path)


def test_list_shows_refused_and_waiting_mails_without_their_values(outbox: Outbox) -> None:
    waiting = outbox.write("bob@example.test", "pending", 3, "reply 450", 900)
    refused = outbox.write("alice@example.test", "refused", 1, "reply 550", 0)
    new = outbox.write("carol@example.test", "pending", 0, None, 0)
    outbox.execute("update outbox set created_at = '2026-11-24 08:00Z' returning 1")
    outbox.execute(
        "update outbox set created_at = '2026-11-24 09:00Z' where attempts = 0 returning 1"
    )
    outbox.write("", "sent", 1, None, 0)
    status, lines, errors = outbox.run()
    assert (status, errors) == (0, "")
    assert lines == [
        "refused 1, waiting 2",
        f"{refused}  refused  written 2026-11-24 08:00 UTC  attempts 1",
        "    lockout, reply 550, to alice@example.test",
        f"{waiting}  waiting  written 2026-11-24 08:00 UTC  attempts 3",
        "    lockout, reply 450, to bob@example.test",
        f"{new}  waiting  written 2026-11-24 09:00 UTC  attempts 0",
        "    lockout, no error, to carol@example.test",
    ]


def test_list_has_at_most_100_mails_and_100_columns(outbox: Outbox) -> None:
    recipient = "a" * 64 + "@" + "example." * 20 + "test"
    for _ in range(103):
        outbox.write(recipient, "refused", 100_000, "given up: SMTPServerDisconnected: lost", 0)
    status, lines, _ = outbox.run()
    assert status == 0
    assert (lines[0], lines[-1]) == ("refused 103, waiting 0", "... and 3 more")
    assert len(lines) == 2 + 2 * 100
    assert max(map(len, lines)) == 100


def test_retry_makes_refused_mails_new_and_those_that_wait_due(outbox: Outbox) -> None:
    outbox.write("alice@example.test", "refused", 1, "reply 550", 0)
    outbox.write("bob@example.test", "pending", 9, "reply 450", 900)
    assert outbox.run("retry") == (0, ["mails to send now: 2"], "")
    mails = outbox.execute(
        "select recipient, state, attempts, due_at <= now(), created_at > now() - interval '1 day',"
        " finished_at from outbox order by recipient"
    )
    assert mails == [
        ("alice@example.test", "pending", 0, True, True, None),
        ("bob@example.test", "pending", 0, True, False, None),
    ]


def test_retry_leaves_a_mail_that_a_process_may_be_sending(outbox: Outbox) -> None:
    outbox.write("alice@example.test", "pending", 1, None, LEASE - 5)
    outbox.write("", "sent", 1, None, 0)
    before = outbox.execute("select * from outbox order by id")
    assert outbox.run("retry") == (0, ["mails to send now: 0"], "")
    assert outbox.execute("select * from outbox order by id") == before


def test_retry_of_one_mail_leaves_the_others(outbox: Outbox) -> None:
    chosen = outbox.write("alice@example.test", "refused", 1, "reply 550", 0)
    outbox.write("bob@example.test", "refused", 1, "reply 550", 0)
    assert outbox.run("retry", chosen) == (0, ["mails to send now: 1"], "")
    mails = outbox.execute("select recipient, state from outbox order by recipient")
    assert mails == [("alice@example.test", "pending"), ("bob@example.test", "refused")]


def test_retry_of_an_unknown_mail_is_one_sentence(outbox: Outbox) -> None:
    unknown = uuid.uuid4()
    status, lines, errors = outbox.run("retry", str(unknown))
    assert (status, lines) == (1, [])
    assert errors == (
        f"Nothing to retry: {unknown} is unknown, was sent, or is due within a minute.\n"
    )
    status, lines, errors = outbox.run("retry", "1; delete")
    assert (status, lines) == (2, []) and "invalid UUID value" in errors


def test_list_of_a_database_that_is_not_migrated_is_one_sentence(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    assert Outbox(new_database(), tmp_path).run() == (
        1,
        [],
        "The database has another version of the schema: run `python run.py migrate`.\n",
    )


def test_list_without_a_database_is_one_sentence(tmp_path: Path) -> None:
    url = f"postgresql://user:hunter2@127.0.0.1:{free_port()}/x"
    status, lines, errors = Outbox(url, tmp_path).run()
    assert status == 1
    assert errors.startswith("The database cannot be reached: ") and errors.count("\n") == 1
    assert "hunter2" not in errors + "".join(lines)


def test_commands_use_the_embedded_server_of_a_running_service(tmp_path: Path) -> None:
    unreachable = {
        "SMTP_URL": f"smtp://127.0.0.1:{free_port()}",
        "MAIL_FROM": "accounts@example.org",
        "BASE_URL": "http://localhost",
    }
    with serve(tmp_path / "service", **unreachable) as service:
        service.wait_until_serving().register("alice")
        for number, (arguments, words) in enumerate({(): "waiting 1", ("retry",): "now: "}.items()):
            with serve(
                tmp_path / f"mail{number}",
                command=(*RUN, "mail", *arguments),
                DATA_DIR=service.data_dir,
            ) as process:
                assert process.wait_for_exit() == 0, process.err
                assert words in process.out
        assert service.login("alice") == 200
