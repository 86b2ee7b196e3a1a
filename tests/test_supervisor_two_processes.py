"""Test two processes with one database: a session that one ends, the other rejects."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from service.database.migrate import migrate
from tests.processes import Process, account, eventually, send_and_read, serve

REVOKED = {"errors": {"token": ["has been revoked"]}, "code": "token_revoked"}

LISTENERS = """
    select count(distinct application_name) from pg_stat_activity
    where datname = current_database() and application_name like 'listener_%'
"""


@pytest.fixture(scope="module")
def processes(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Process]]:
    """Start two services with the same database."""
    url = new_database()
    migrate(url, lambda _: None)
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                serve(tmp_path_factory.mktemp(name), DATABASE_URL=url)
            ).wait_until_serving()
            for name in ("one", "other")
        ]


# Requests from another device of the same user, each of which ends the session.
ENDINGS = {
    "one session": ("DELETE", "/api/user/sessions/{id}", None),
    "all others": ("DELETE", "/api/user/sessions", None),
    "password": ("PUT", "/api/user", {"user": {"password": "a new secret"}}),
    "account": ("DELETE", "/api/user", {"user": {"password": "account-secret"}}),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_session_ended_in_one_process_is_rejected_by_the_other(
    processes: list[Process], name: str
) -> None:
    one, other = processes
    username = name.replace(" ", "-")
    token = one.register(username)
    status, device = one.request("POST", "/api/users/login", account(username))
    assert status == 200
    method, path, body = ENDINGS[name]
    with other.connection() as connection:

        def ask_other() -> tuple[int, object]:
            return send_and_read(connection, "GET", "/api/user", None, token)

        assert ask_other()[0] == 200
        sessions = one.request("GET", "/api/user/sessions", None, token)[1]["sessions"]
        (session_id,) = (session["id"] for session in sessions if session["current"])
        status, _ = one.request(method, path.format(id=session_id), body, device["user"]["token"])
        assert status in (200, 204)
        eventually(lambda: ask_other() == (401, REVOKED), "the rejection")


def test_user_changed_in_one_process_is_current_in_the_other(processes: list[Process]) -> None:
    one, other = processes
    token = one.register("changes")
    assert other.request("GET", "/api/user", None, token)[1]["user"]["bio"] == ""
    change = {"user": {"bio": "new"}}
    assert one.request("PUT", "/api/user", change, token)[0] == 200

    def bio() -> str:
        return str(other.request("GET", "/api/user", None, token)[1]["user"]["bio"])

    eventually(lambda: bio() == "new", "the change")


def test_workers_of_one_service_listen_to_heartbeats_of_their_own(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    url = new_database()

    async def listeners() -> int:
        connection = await asyncpg.connect(url)
        try:
            return int(await connection.fetchval(LISTENERS))
        finally:
            await connection.close()

    with serve(tmp_path, DATABASE_URL=url, WEB_CONCURRENCY=2) as service:
        service.wait_until_serving()
        eventually(lambda: asyncio.run(listeners()) == 2, "two listeners")
