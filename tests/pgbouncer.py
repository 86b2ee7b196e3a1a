"""PgBouncer in transaction mode in front of a PostgreSQL server of the tests.

``TEST_PGBOUNCER=1`` runs all tests through it, and ``TEST_PGBOUNCER=/path/to/pgbouncer`` with
another version. ``tests/conftest.py`` starts it. Without a ``pgbouncer`` the tests that need it are
skipped.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

MAX_WAIT = 20.0  # Seconds for the start.
_given = os.environ.get("TEST_PGBOUNCER", "")
_name = _given if _given not in ("", "0", "1") else "pgbouncer"
# Debian installs it into a folder that only the PATH of root contains.
PROGRAM = shutil.which(_name, path=f"{os.environ['PATH']}:/usr/sbin")
IS_USED = _given not in ("", "0")
"""Whether all tests run through PgBouncer."""

without_pgbouncer = pytest.mark.skipif(IS_USED, reason="is about direct connections")

needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="needs pgbouncer")

# ``server_login_retry``: after a failed connection to PostgreSQL, PgBouncer tries again only after
# 15 seconds by default. ``docs/operations.md`` recommends these values.
CONFIGURATION = """
[databases]
* = host={host} port={port}{connect_query}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
admin_users = admin
max_client_conn = 5000
default_pool_size = {pool_size}
server_login_retry = 1
{options}
"""


def supports_prepared_statements() -> bool:
    """Return whether there is a PgBouncer of version 1.21 or newer."""
    if PROGRAM is None:
        return False
    text = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor, *_ = text.split()[1].split(".")
    return (int(major), int(minor)) >= (1, 21)


class PgBouncer:
    """One PgBouncer, which runs inside the ``with`` block in front of ``server_url``.

    The options are lines of its configuration.
    """

    def __init__(
        self, server_url: str, *, pool_size: int = 20, connect_query: str = "", **options: str
    ) -> None:
        assert PROGRAM is not None, "pgbouncer is not installed"
        server = conninfo_to_dict(server_url)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        host = str(server.get("host") or "127.0.0.1")
        # PgBouncer refuses to run as root, and only the owner can enter the folder of the socket.
        owner = Path(host).stat() if host.startswith("/") else None
        uid = owner.st_uid if owner is not None and owner.st_uid else 65534
        self._user = str(server.get("user") or "postgres")
        users = {self._user: str(server.get("password") or ""), "admin": ""}
        (self._folder / "users").write_text(
            "".join(f'"{name}" "{password}"\n' for name, password in users.items())
        )
        configuration = CONFIGURATION.format(
            host=host,
            port=server.get("port") or 5432,
            listen_port=self.port,
            folder=self._folder,
            pool_size=pool_size,
            connect_query=f" connect_query='{connect_query}'" if connect_query else "",
            options="\n".join(
                f"{name} = {value}"
                for name, value in {"pool_mode": "transaction", **options}.items()
            ),
        )
        (self._folder / "pgbouncer.ini").write_text(configuration)
        self._log = self._folder / "log"
        is_root = os.geteuid() == 0
        if is_root:
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, uid, uid)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [PROGRAM, str(self._folder / "pgbouncer.ini")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=uid if is_root else None,
                group=uid if is_root else None,
                extra_groups=[] if is_root else None,
            )

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        return self._process.pid

    def __enter__(self) -> Self:
        deadline = time.monotonic() + MAX_WAIT
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            is_late = time.monotonic() > deadline
            assert not is_late and self._process.poll() is None, self._log.read_text()
            time.sleep(0.01)

    def __exit__(self, *failure: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder)

    def url(self, server_url: str) -> str:
        """Return the URL through PgBouncer to the database of ``server_url``."""
        name = quote(str(conninfo_to_dict(server_url)["dbname"]), safe="")
        return f"postgresql://{self._user}@127.0.0.1:{self.port}/{name}"

    def execute(self, command: str) -> None:
        """Run a command of the administration console."""
        with psycopg.connect(
            f"postgresql://admin@127.0.0.1:{self.port}/pgbouncer", autocommit=True
        ) as console:
            console.execute(command, prepare=False)


class Poolers:
    """Put a PgBouncer in front of each server that the tests use."""

    def __init__(self) -> None:
        self._running = contextlib.ExitStack()
        self._by_server: dict[tuple[str, ...], PgBouncer] = {}

    def url(self, server_url: str) -> str:
        """Return the URL through a PgBouncer to the database of ``server_url``.

        Return ``server_url`` itself if it is malformed, or if it has no host, several hosts, or one
        that does not exist.
        """
        try:
            server = conninfo_to_dict(server_url)
        except psycopg.ProgrammingError:
            return server_url
        host = str(server.get("host") or "")
        key = tuple(str(server.get(name)) for name in ("host", "port", "user", "password"))
        if not host or "," in host or (host.startswith("/") and not Path(host).exists()):
            return server_url
        if key not in self._by_server:
            pgbouncer = PgBouncer(server_url, pool_size=100)
            self._by_server[key] = self._running.enter_context(pgbouncer)
        return self._by_server[key].url(server_url)

    def wait_for(self, server_url: str) -> None:
        """Wait until PgBouncer has noticed that the server is back."""
        deadline = time.monotonic() + MAX_WAIT
        while True:
            try:
                with psycopg.connect(self.url(server_url)) as connection:
                    connection.execute("select 1", prepare=False)
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PgBouncer does not reach PostgreSQL"
                time.sleep(0.05)
            else:
                return

    def environment(self, given: dict[str, str]) -> dict[str, str]:
        """Return the environment of a service whose ``DATABASE_URL`` leads to a server."""
        url = given.get("DATABASE_URL")
        if url is None or "DATABASE_LISTEN_URL" in given:
            return given
        return {
            **given,
            "DATABASE_URL": self.url(url),
            "DATABASE_LISTEN_URL": url,
            "DATABASE_PREPARED_STATEMENTS": str(supports_prepared_statements()),
        }

    def close(self) -> None:
        """Stop each PgBouncer."""
        self._running.close()
        self._by_server.clear()


POOLERS = Poolers()
