"""Start the measured servers: the service on an embedded database, and the bare handler."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT = 60.0  # Seconds.


def free_port() -> int:
    """Return a TCP port on which no process listens now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` during the block, which starts when a process listens on ``port``.

    ``options`` are those of ``Popen``, and ``given``: the bytes for its standard input. Raise
    ``SystemExit`` with the output if nothing listens after ``START_TIMEOUT`` seconds.
    """
    given = options.pop("given", None)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **options,
        )
        try:
            if given is not None:
                assert process.stdin is not None
                process.stdin.write(given)
                process.stdin.close()
            _wait_for(port, process, log)
            yield process
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Any) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            raise SystemExit(f"A server did not start:\n{log.read().decode(errors='replace')}")
        time.sleep(0.05)


@dataclass(frozen=True)
class Service:
    """A running server."""

    url: str
    pid: int

    def memory(self) -> int:
        """Return the resident bytes of its largest child process, which is the serving one."""
        return self._worker()[0]

    def peak_memory(self) -> int:
        """Return the most resident bytes that the serving process had at any time. Needs Linux."""
        status = Path(f"/proc/{self._worker()[1]}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])

    def _worker(self) -> tuple[int, int]:
        """Return the resident bytes and the id of the serving process."""
        listed = subprocess.run(
            ["ps", "-A", "-o", "ppid=", "-o", "pid=", "-o", "rss="],
            capture_output=True,
            text=True,
            check=True,
        )
        rows = [[int(cell) for cell in line.split()] for line in listed.stdout.splitlines()]
        return max((1024 * rss, pid) for parent, pid, rss in rows if parent == self.pid)


@contextlib.contextmanager
def service(**settings: str) -> Iterator[Service]:
    """Run the service during the block.

    ``settings`` are environment variables. Without a database in them the service starts an empty
    embedded one.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as data:
        environment = {
            "PATH": os.environ["PATH"],
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "DATA_DIR": data,
            **settings,
        }
        command = [sys.executable, "run.py", "serve"]
        with running(command, port, env=environment) as process:
            yield Service(f"http://127.0.0.1:{port}", process.pid)


@contextlib.contextmanager
def bare(body: bytes, database_url: str | None = None) -> Iterator[Service]:
    """Run the bare handlers during the block: one responds with ``body``, one with a query."""
    port = free_port()
    command = [sys.executable, "-m", "bench.bare", str(port)]
    if database_url is not None:
        command.append(database_url)
    with running(command, port, given=body) as process:
        yield Service(f"http://127.0.0.1:{port}", process.pid)


def call(url: str, body: Any = None, token: str | None = None) -> bytes:
    """Send one request, a POST if there is a ``body``, and return the bytes of the response."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data)
    if token is not None:
        request.add_header("Authorization", f"Token {token}")
    with urllib.request.urlopen(request, timeout=30) as response:
        return bytes(response.read())
