"""Two real processes over one database: what one ends, the other refuses."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from service.database.migrate import migrate
from tests.processes import Process, account, ask, eventually, serve

REVOKED = {"errors": {"token": ["has been revoked"]}, "code": "token_revoked"}


@pytest.fixture(scope="module")
def processes(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Process]]:
    """Two of them, each started on its own."""
    url = new_database()
    migrate(url, lambda _: None)
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(serve(tmp_path_factory.mktemp(name), DATABASE_URL=url)).serving()
            for name in ("one", "other")
        ]


# By another device of the same user, where the path does not name one.
ENDINGS = {
    "one session": ("DELETE", "/api/user/sessions/{id}", None),
    "all others": ("DELETE", "/api/user/sessions", None),
    "password": ("PUT", "/api/user", {"user": {"password": "a new secret"}}),
    "account": ("DELETE", "/api/user", {"user": {"password": "account-secret"}}),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_what_one_process_ends_the_other_refuses(processes: list[Process], name: str) -> None:
    one, other = processes
    name_of_user = name.replace(" ", "-")
    token = one.register(name_of_user)
    status, device = one.request("POST", "/api/users/login", account(name_of_user))
    assert status == 200
    method, path, body = ENDINGS[name]
    with other.connection() as connection:

        def ask_other() -> tuple[int, object]:
            return ask(connection, "GET", "/api/user", None, token)

        assert ask_other()[0] == 200
        sessions = one.request("GET", "/api/user/sessions", None, token)[1]["sessions"]
        (mine,) = (session["id"] for session in sessions if session["current"])
        status, _ = one.request(method, path.format(id=mine), body, device["user"]["token"])
        assert status in (200, 204)
        eventually(lambda: ask_other() == (401, REVOKED), "the refusal")


def test_what_one_process_changes_the_other_shows(processes: list[Process]) -> None:
    one, other = processes
    token = one.register("changes")
    assert other.request("GET", "/api/user", None, token)[1]["user"]["bio"] == ""
    change = {"user": {"bio": "new"}}
    assert one.request("PUT", "/api/user", change, token)[0] == 200

    def bio() -> str:
        return str(other.request("GET", "/api/user", None, token)[1]["user"]["bio"])

    eventually(lambda: bio() == "new", "the change")
