"""Run the service as a real process with its own environment, as its users do.

Every process started here is killed at the end of its test, also if the test fails.
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
from tests import pgbouncer

ROOT = Path(__file__).resolve().parents[1]
RUN = (sys.executable, str(ROOT / "run.py"))
SECRET = "processes sign with this, 32 bytes or more"
MAX_WAIT = 30.0  # Seconds. A test fails when it has to wait longer.

_Found = TypeVar("_Found")

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def eventually(look: Callable[[], _Found], what: str = "what was waited for") -> _Found:
    """Call ``look`` until its result is true, and return that result. Fail after ``MAX_WAIT``."""
    deadline = time.monotonic() + MAX_WAIT
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)
    return found


_reserved: list[socket.socket] = []


def free_port() -> int:
    """Return a port that no process listens on.

    On Linux the port stays reserved until the tests end: a bound socket keeps the kernel from
    assigning the port to another program, and a service can still listen there, because both set
    SO_REUSEADDR. Elsewhere another program may get the port before the service binds it.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    port = int(sock.getsockname()[1])
    if sys.platform == "linux":
        _reserved.append(sock)
    else:
        sock.close()
    return port


def heed_signals() -> None:
    """Undo that a shell ignores signals: SIGHUP under ``nohup``, SIGINT in the background."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


class Process:
    """A program that runs in an empty folder, without a ``.env`` file, with a given environment.

    The environment contains ``PATH`` and ``DATA_DIR`` in addition.
    """

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
                preexec_fn=heed_signals,
            )
        self.pid = self._popen.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        # The workers are in the same process group. On Linux PostgreSQL exits with its parent.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        eventually(lambda: not self.postgres(), "the end of PostgreSQL")
        # Only the next start with the same data removes the runtime directory of a killed service,
        # and there is no next start here.
        lock = self.data_dir / "lock"
        if lock.exists():
            remove_leftovers(self.data_dir, lock.read_text().partition("\n")[2].strip())

    @property
    def port(self) -> int:
        """Return the port that the service was configured to listen on."""
        return int(self._environment["PORT"])

    @property
    def out(self) -> str:
        """Return the standard output so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """Return the standard error so far."""
        return self._err.read_text()

    def wait_for_output(self, words: str) -> None:
        """Wait until ``words`` appear in the standard output. Fail if the process exits first."""

        def look() -> bool:
            if words in self.out:
                return True
            assert self._popen.poll() is None, f"it ended:\n{self.out}\n{self.err}"
            return False

        eventually(look, f"{words!r}")

    def wait_until_serving(self) -> Self:
        """Wait until the service listens."""
        self.wait_for_output("Listening on")
        return self

    def send(self, number: signal.Signals) -> None:
        """Send the signal ``number`` to the process."""
        os.kill(self.pid, number)

    def wait_for_exit(self) -> int:
        """Wait for the exit of the process and return its exit status."""
        return self._popen.wait(MAX_WAIT)

    def children(self) -> list[int]:
        """Return the ids of its child processes: the workers and the PostgreSQL server."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return [pid for pid in self.children() if pid not in self.postgres()]

    def postgres(self) -> list[int]:
        """Return the ids of all processes of the embedded PostgreSQL with this data folder."""
        folder = self.data_dir / "postgres"
        if sys.platform != "linux" or not folder.exists():
            return []
        name = cluster_name(folder).encode()
        return [pid for pid, command in commands() if name in command]

    def remaining_processes(self) -> list[int]:
        """Return the ids of all running processes of the service: itself and every descendant."""
        return [pid for pid in session(self.pid) if pid not in self.postgres()] + self.postgres()

    def log(self) -> list[dict[str, Any]]:
        """Parse the standard output. Each line must be JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    def request(
        self, method: str, path: str, body: Any = None, token: str | None = None
    ) -> tuple[int, Any]:
        """Send a request on a new connection and return the status and the body."""
        with self.connection() as connection:
            return send_and_read(connection, method, path, body, token)

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        """Open a connection for several requests, and close it at the end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=MAX_WAIT)
        try:
            yield connection
        finally:
            connection.close()

    def register(self, name: str) -> str:
        """Register an account and return its token."""
        status, body = self.request("POST", "/api/users", account(name))
        assert status == 200, body
        return str(body["user"]["token"])

    def login(self, name: str) -> int:
        """Log in and return the status."""
        return self.request("POST", "/api/users/login", account(name))[0]


def serve(folder: Path, *, command: Sequence[str] = (*RUN, "serve"), **environment: Any) -> Process:
    """Start the service with the settings that every test needs, and with ``environment``."""
    given = {name: str(value) for name, value in environment.items()}
    if "DATABASE_URL" in given:
        given = {"JWT_SECRET": SECRET, "BCRYPT_COST": "10", **given}
    else:
        given = {"BCRYPT_COST": "4", **given}
    if pgbouncer.IS_USED:
        given = pgbouncer.POOLERS.environment(given)
    return Process(command, folder, {"PORT": str(free_port()), **given})


def account(name: str) -> dict[str, dict[str, str]]:
    """Return the request body to register and to log in the user ``name``."""
    user = {"username": name, "email": f"{name}@example.test", "password": f"{name}-secret"}
    return {"user": user}


def send_and_read(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    token: str | None = None,
) -> tuple[int, Any]:
    """Send a request on ``connection`` and return the status and the body."""
    send_request(connection, method, path, body, token)
    return read_response(connection)


def send_request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    token: str | None = None,
) -> None:
    """Send a request without waiting for the response."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Token {token}"
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)


def read_response(connection: http.client.HTTPConnection) -> tuple[int, Any]:
    """Read the response to a request of ``send_request``. Return the status and the body."""
    response = connection.getresponse()
    content = response.read()
    return response.status, json.loads(content) if content else None


def session(leader: int) -> list[int]:
    """Return the ids of the running processes in the session of ``leader``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # The process name may contain any character, so split after its closing parenthesis.
            # The next fields are the state, the parent, the process group and the session.
            state, _, _, number = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == leader and state != "Z":
                found.append(int(entry.name))
    return found


def commands() -> list[tuple[int, bytes]]:
    """Return the id and the command line of every process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append((int(entry.name), (entry / "cmdline").read_bytes()))
    return found
