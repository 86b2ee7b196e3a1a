"""A PostgreSQL that a test may stop, kill and start while others go on.

It is held by a process of its own, ``python -m tests.postgres FOLDER``, since its supervisor blocks
while it starts: the test's event loop shall not stand still meanwhile.
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
    """One server, running and migrated inside ``with``."""

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
        self.url = self._answer()
        self._is_away = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        # At the end of its input it stops the server and ends, also when the tests were killed.
        self._process.communicate()

    def stop(self) -> None:
        """Shut it down as an administrator would."""
        self._tell("stop")
        self._is_away = True

    def kill(self) -> None:
        """End it as a power cut would."""
        self._tell("kill")
        self._is_away = True

    def start(self) -> None:
        """Start it again, unless it runs; it answers when this returns."""
        if self._is_away:
            self._tell("start")
            self._is_away = False

    def _tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def main() -> None:
    """Hold a server and obey."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which then end this.
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
