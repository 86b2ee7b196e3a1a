"""The start of the service: the time to the first response, and the memory after a load. Linux."""

import contextlib
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.servers import ROOT, free_port
from bench.table import Row

STARTS = 9
USERS = 50
REQUESTS = 2000
WORKERS = 2
PATHS = ("/api/user", "/api/articles", "/api/tags", "/api/user/sessions")

IMPORT = """
import time
started = time.perf_counter()
import service.app
print(time.perf_counter() - started)
"""


def measure(report: Callable[[str], None]) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes half a minute."""
    with tempfile.TemporaryDirectory() as folder:
        report("Creating the database ...")
        with _running(folder):
            pass
        starts = []
        for number in range(1, STARTS + 1):
            report(f"Starting the service, round {number} of {STARTS} ...")
            started = time.perf_counter()
            with _running(folder):
                starts.append(time.perf_counter() - started)
        report("Importing the application ...")
        imports = [_import_time() for _ in range(STARTS)]
        report("Measuring the memory after a load ...")
        with _running(folder) as (process, port):
            _load(port)
            parent, *workers = _memory(process.pid)
    return [
        Row(
            "run.py to the first response, with a database",
            f"{statistics.median(starts):.2f} s",
            f"{max(starts):.2f} s",
            "at most 0.60 s",
        ),
        Row(
            "import of the application",
            f"{statistics.median(imports):.2f} s",
            f"{max(imports):.2f} s",
            "at most 0.30 s",
        ),
        Row("memory of the parent and one worker", _mib(parent + workers[0]), "", "at most 50 MiB"),
        Row("memory of each further worker", _mib(max(workers)), "", "at most 30 MiB"),
    ]


def _mib(kibibytes: int) -> str:
    return f"{kibibytes / 1024:.0f} MiB"


@contextlib.contextmanager
def _running(folder: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start the service with its data in ``folder``, and wait for the first response."""
    port = free_port()
    settings = {
        "PORT": str(port),
        "DATA_DIR": f"{folder}/data",
        "WEB_CONCURRENCY": str(WORKERS),
        "BCRYPT_COST": "4",
    }
    # A service in production has the bytecode of its modules.
    environment = {**os.environ, **settings, "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with (
        Path(f"{folder}/log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "run.py"], cwd=ROOT, env=environment, stdout=log, stderr=log
        ) as process,
    ):
        try:
            while not _responds(port):
                if process.poll() is not None:
                    raise SystemExit(f"The service did not start: {Path(log.name).read_text()}")
                time.sleep(0.002)
            yield process, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _responds(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", "/api/tags")
        return connection.getresponse().status == 200
    return False


def _import_time() -> float:
    """Return the seconds of an import in a process of its own."""
    command = [sys.executable, "-c", IMPORT]
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, check=True, text=True
    )
    return float(run.stdout)


def _load(port: int) -> None:
    """Register users, and send requests of each of them, each on a connection of its own."""
    tokens = []
    for number in range(USERS):
        name = f"bench{number}"
        user = {"username": name, "email": f"{name}@example.test", "password": "bench-bench"}
        tokens.append(_send(port, "POST", "/api/users", {"user": user})["user"]["token"])
    for number in range(REQUESTS):
        _send(port, "GET", PATHS[number % len(PATHS)], token=tokens[number % USERS])


def _send(
    port: int, method: str, path: str, body: object = None, token: str | None = None
) -> dict[str, dict[str, str]]:
    """Send a request and return the JSON of the response."""
    headers = {} if token is None else {"Authorization": f"Token {token}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        text = response.read()
    if response.status >= 400:
        raise SystemExit(f"{method} {path} failed: {response.status} {text.decode()}")
    found: dict[str, dict[str, str]] = json.loads(text)
    return found


def _memory(parent: int) -> list[int]:
    """Return the proportional set size of the parent and of its workers, in KiB."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    workers = [
        int(pid) for pid in children if "postgres" not in Path(f"/proc/{pid}/comm").read_text()
    ]
    return [_proportional_set_size(pid) for pid in (parent, *workers)]


def _proportional_set_size(pid: int) -> int:
    """Return the memory of a process, where each shared page counts in proportion."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
