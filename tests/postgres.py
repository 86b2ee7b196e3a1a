"""A separate PostgreSQL server, which a test can stop and kill without effect on other tests.

The server runs under a separate process, ``python -m tests.postgres FOLDER``: ``EmbeddedServer``
blocks while it starts, and the event loop of the test must not be blocked.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from service.database.migrate import migrate
from service.embedded_postgres.server import EmbeddedServer

ROOT = Path(__file__).resolve().parents[1]


class OwnPostgres:
    """One server with a migrated database, which runs inside the ``with`` block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.postgres", str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.url = self._read_line()
        self._is_stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        # The process stops the server and exits when its standard input is closed, which also
        # happens when the tests are killed.
        self._process.communicate()

    def stop(self) -> None:
        """Stop the server with a fast shutdown, as an administrator does."""
        self._send_command("stop")
        self._is_stopped = True

    def kill(self) -> None:
        """Kill the server, as a power failure does."""
        self._send_command("kill")
        self._is_stopped = True

    def start(self) -> None:
        """Start the server if it does not run, and wait until it accepts connections."""
        if self._is_stopped:
            self._send_command("start")
            self._is_stopped = False

    def _send_command(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        assert self._read_line() == "done"

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def main() -> None:
    """Run a server and execute the commands read from standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # On Ctrl-C, pytest ends this process.
    server = EmbeddedServer(Path(sys.argv[1]), lambda _: None)
    url = server.start()
    migrate(url, lambda _: None)
    print(url, flush=True)
    for command in sys.stdin:
        if command == "start\n":
            server.restart()
        elif server.pid is not None:
            os.kill(server.pid, signal.SIGKILL if command == "kill\n" else signal.SIGINT)
            os.waitpid(server.pid, 0)
        print("done", flush=True)
    server.stop()


if __name__ == "__main__":
    main()
