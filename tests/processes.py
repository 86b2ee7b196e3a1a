"""The service as its users run it: a real process, with an environment of its own.

Every process started here ends with its test, also when the test fails.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

from service.embedded_postgres.files import remove_leftovers
from service.embedded_postgres.processes import cluster_name

ROOT = Path(__file__).resolve().parents[1]
RUN = (sys.executable, str(ROOT / "run.py"))
SECRET = "processes sign with this, 32 bytes or more"
PATIENCE = 30.0  # Seconds: what takes longer will never come.

_Found = TypeVar("_Found")

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def eventually(look: Callable[[], _Found], what: str = "what was waited for") -> _Found:
    """What ``look`` finds, as soon as it finds something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Process:
    """A program with exactly the given environment, in an empty folder, where no ``.env`` is."""

    def __init__(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self._environment = environment
        folder.mkdir(exist_ok=True)
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._popen = subprocess.Popen(
                command,
                cwd=folder,
                env={"PATH": os.environ["PATH"], "DATA_DIR": str(self.data_dir), **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        # The workers are in its session; on Linux PostgreSQL ends with its parent.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        eventually(lambda: not self.postgres(), "the end of PostgreSQL")
        # A killed service leaves its run folder to the next start over its data: there is none.
        lock = self.data_dir / "lock"
        if lock.exists():
            remove_leftovers(self.data_dir, lock.read_text().partition("\n")[2].strip())

    @property
    def port(self) -> int:
        """Where it was told to listen."""
        return int(self._environment["PORT"])

    @property
    def out(self) -> str:
        """What it has written to standard output so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """What it has written to standard error so far."""
        return self._err.read_text()

    def says(self, words: str) -> None:
        """Wait until it has said ``words``."""

        def look() -> bool:
            if words in self.out:
                return True
            assert self._popen.poll() is None, f"it ended:\n{self.out}\n{self.err}"
            return False

        eventually(look, f"{words!r}")

    def serving(self) -> Self:
        """Wait until it serves."""
        self.says("Listening on")
        return self

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def status(self) -> int:
        """Wait for its end; its exit status."""
        return self._popen.wait(PATIENCE)

    def children(self) -> list[int]:
        """The processes that it started itself: the workers, and PostgreSQL's first."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def workers(self) -> list[int]:
        """The processes that serve requests."""
        return [pid for pid in self.children() if pid not in self.postgres()]

    def postgres(self) -> list[int]:
        """Every process of the embedded PostgreSQL over its data folder."""
        folder = self.data_dir / "postgres"
        if sys.platform != "linux" or not folder.exists():
            return []
        name = cluster_name(folder).encode()
        return [pid for pid, command in commands() if name in command]

    def left(self) -> list[int]:
        """Every process that it started, directly or not, and that still runs; itself too."""
        return [pid for pid in session(self.pid) if pid not in self.postgres()] + self.postgres()

    def log(self) -> list[dict[str, Any]]:
        """Standard output, each line of which must be JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    def request(
        self, method: str, path: str, body: Any = None, token: str | None = None
    ) -> tuple[int, Any]:
        """Ask, on a connection of its own; status and body."""
        with self.connection() as connection:
            return ask(connection, method, path, body, token)

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        """A connection that stays open from one request to the next."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            yield connection
        finally:
            connection.close()

    def register(self, name: str) -> str:
        """Open an account; its token."""
        status, body = self.request("POST", "/api/users", account(name))
        assert status == 200, body
        return str(body["user"]["token"])

    def login(self, name: str) -> int:
        """Sign in; the status."""
        return self.request("POST", "/api/users/login", account(name))[0]


def serve(folder: Path, *, command: Sequence[str] = (*RUN, "serve"), **environment: Any) -> Process:
    """The service; ``environment`` is added to what every test needs."""
    given = {name: str(value) for name, value in environment.items()}
    if "DATABASE_URL" in given:
        given = {"JWT_SECRET": SECRET, "BCRYPT_COST": "10", **given}
    else:
        given = {"BCRYPT_COST": "4", **given}
    return Process(command, folder, {"PORT": str(free_port()), **given})


def account(name: str) -> dict[str, dict[str, str]]:
    """The body that registers and signs in ``name``."""
    user = {"username": name, "email": f"{name}@example.test", "password": f"{name}-secret"}
    return {"user": user}


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    token: str | None = None,
) -> tuple[int, Any]:
    """Ask on ``connection``; status and body."""
    begin(connection, method, path, body, token)
    return answer(connection)


def begin(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    token: str | None = None,
) -> None:
    """Send a request and do not wait for the answer."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Token {token}"
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)


def answer(connection: http.client.HTTPConnection) -> tuple[int, Any]:
    """The answer to the request that was begun."""
    response = connection.getresponse()
    content = response.read()
    return response.status, json.loads(content) if content else None


def session(leader: int) -> list[int]:
    """The running processes of the session that ``leader`` opened."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # After the name, which may hold anything: state, parent, group, session.
            state, _, _, number = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == leader and state != "Z":
                found.append(int(entry.name))
    return found


def commands() -> list[tuple[int, bytes]]:
    """Every process with its command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append((int(entry.name), (entry / "cmdline").read_bytes()))
    return found
